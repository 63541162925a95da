//! The typed calls, and how a write whose answer was lost is settled.
//!
//! | call | after a lost answer it is done when |
//! |---|---|
//! | clone, create | the VMID has our mark and no lock |
//! | config | every value is as asked |
//! | resize | the disk is at least as large |
//! | template, start, stop | the VM is one, runs, does not run |
//! | delete of a VM or volume | it is not there |
//! | upload, download | the file is listed, an upload with its size |

mod host;
mod make;
mod making;
mod settle;
mod storage;
mod vm;

pub use make::{CloneRequest, CreateRequest};
pub use making::is_making;
