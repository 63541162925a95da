//! The program as a person runs it, on simulated worlds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics is a test that fails")]

#[path = "../kit/golden.rs"]
mod golden;
mod standing;
mod world;

mod access;
mod balancers;
mod doctor;
mod etcd;
mod faults;
mod interrupted;
mod joins;
mod losses;
mod network;
mod offline;
mod ownership;
mod privileges;
mod refused;
mod schema;
mod up;
