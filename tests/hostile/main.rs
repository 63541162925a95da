//! The program against peers that flood, are slow, send wrong data or stop answering: a spoiling HTTPS
//! proxy before the simulated hosts, and a spoiling SSH server in place of its guests.
//!
//! Each run must end by itself with its own error, under 200 MB, and without a raw control character in
//! its output and files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics is a test that fails")]

mod guest;
mod guests;
mod hosts;
mod ran;
mod spoiler;
mod stand;
mod tasks;
mod texts;
