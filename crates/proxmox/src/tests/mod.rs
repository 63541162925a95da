//! The client against a scripted host: what goes over the wire, and what comes of each answer.

mod board;
mod fleet;
mod odd;
mod recordings;
mod settling;
mod shapes;
mod shared;
mod wire_level;
