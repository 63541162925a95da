//! Unused addresses of this machine: all of 127.0.0.0/8 is loopback on Linux.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

static TAKEN: AtomicU32 = AtomicU32::new(0);

/// A new one. A port chosen by the system may be taken a moment later; on a separate address every port
/// is free.
pub fn address() -> Ipv4Addr {
    let count = TAKEN.fetch_add(1, Ordering::Relaxed);
    assert!(count < 256, "more addresses than a process has");
    let [_, b, c, d] = ((std::process::id() << 8) + count).to_be_bytes();
    Ipv4Addr::new(127, b, c, d)
}
