//! The client against a scripted host: what goes over the wire, and what comes of each answer.

mod fleet;
mod recordings;
mod settling;
mod shapes;
mod wire_level;
