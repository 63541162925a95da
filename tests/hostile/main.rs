//! The program against peers that flood, dawdle, lie and fall silent: a spoiling HTTPS proxy before
//! the simulated hosts, and a spoiling SSH server in the place of its guests.
//!
//! Each run must end by itself with an error of its own, under 200 MB, and without a raw control
//! character in anything that it prints or keeps.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics is a test that fails")]

mod guest;
mod guests;
mod hosts;
mod ran;
mod spoiler;
mod stand;
mod tasks;
mod texts;
