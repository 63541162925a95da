//! The program as a user runs it, on simulated worlds.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics is a test that fails")]

#[path = "../kit/golden.rs"]
mod golden;
mod made;
mod standing;
mod world;

mod access;
mod balancers;
mod by_hand;
mod cutoff;
mod doctor;
mod etcd;
mod faults;
mod foreign;
mod halted;
mod inputs;
mod interrupted;
mod joins;
mod kubeconfig;
mod living;
mod logs;
mod losses;
mod members;
mod network;
mod offline;
mod ours;
mod ownership;
mod polls;
mod prerequisites;
mod privileges;
mod profile;
mod rebuilds;
mod refused;
mod removals;
mod replaced;
mod schema;
mod seeds;
mod ssh;
mod state_folder;
mod templates;
mod times;
mod up;
mod walk;
