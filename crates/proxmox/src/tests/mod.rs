//! The client against a scripted host: the requests on the wire, and the result of each answer.

mod board;
mod fleet;
mod odd;
mod recordings;
mod settling;
mod shapes;
mod shared;
mod wire_level;
