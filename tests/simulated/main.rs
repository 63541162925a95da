//! The program as a person runs it, on simulated worlds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics is a test that fails")]

#[path = "../kit/golden.rs"]
mod golden;
#[allow(dead_code, reason = "`tests/schema.rs` tries the rest of the checker")]
#[path = "../pve_schema/mod.rs"]
mod pve_schema;
mod standing;
mod world;

mod doctor;
mod etcd;
mod faults;
mod interrupted;
mod ownership;
mod privileges;
mod refused;
mod up;
