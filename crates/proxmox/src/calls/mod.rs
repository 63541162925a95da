//! The typed calls, and how a write with a lost answer is settled.
//!
//! | call | state that proves it done after a lost answer |
//! |---|---|
//! | clone, create | the VMID has k8sha's mark and no lock |
//! | config | every value is as requested |
//! | resize | the disk is at least as large |
//! | template, start, stop | the VM is a template, is running, is stopped |
//! | delete of a VM or volume | it does not exist |
//! | upload, download | the file is listed; for an upload, with its size |

mod host;
mod make;
mod making;
mod settle;
mod storage;
mod vm;

pub use make::{CloneRequest, CreateRequest};
pub use making::is_making;
