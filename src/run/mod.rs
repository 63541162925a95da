//! Executes a plan.

pub mod context;
pub mod engine;
mod first_boot;
pub mod limit;
pub mod look;
mod look_kubernetes;
mod look_nodes;
mod look_rows;
mod look_told;
mod look_watch;
pub mod step;
