//! Doing what a plan says.

pub mod context;
pub mod engine;
mod first_boot;
pub mod look;
pub mod look_nodes;
pub mod step;
