//! Control groups: everything that a lab starts is in the lab's own groups, so that all of it can be
//! found, and nothing else.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const ROOT: &str = "/sys/fs/cgroup";
/// How long killed processes may take to exit.
const GONE: Duration = Duration::from_secs(20);

/// The lab's group in each hierarchy in which it may exist.
fn groups(lab: &str) -> Vec<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut found = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let path = path.trim_matches('/');
        let mounts = match controllers {
            "" => vec!["unified".to_owned(), String::new()],
            name => vec![name.trim_start_matches("name=").to_owned()],
        };
        for mount in mounts {
            // The current process may be in a different group than the one that created it.
            for above in [path, ""] {
                let group = Path::new(ROOT).join(&mount).join(above).join(format!("k8sha-{lab}"));
                if group.is_dir() && !found.contains(&group) {
                    found.push(group);
                }
            }
        }
    }
    found
}

/// Kills everything in the lab's groups, or in one machine's, and removes them.
pub(super) fn kill(lab: &str, machine: Option<&str>) {
    let groups: Vec<PathBuf> = groups(lab)
        .into_iter()
        .map(|group| machine.map_or(group.clone(), |name| group.join(name)))
        .filter(|group| group.is_dir())
        .collect();
    let until = Instant::now() + GONE;
    loop {
        let pids: Vec<i32> = groups.iter().flat_map(|group| pids(group)).collect();
        if pids.is_empty() || Instant::now() > until {
            break;
        }
        for pid in pids.into_iter().filter_map(Pid::from_raw) {
            // A missing group counts as removed.
            let _ = kill_process(pid, Signal::KILL);
        }
        thread::sleep(Duration::from_millis(20));
    }
    for group in groups {
        remove(&group);
    }
}

fn pids(group: &Path) -> Vec<i32> {
    let own = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let mut found: Vec<i32> = own.lines().filter_map(|line| line.parse().ok()).collect();
    found.extend(below(group).iter().flat_map(|group| pids(group)));
    found
}

fn below(group: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(group) else { return Vec::new() };
    entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

fn remove(group: &Path) {
    for inner in below(group) {
        remove(&inner);
    }
    // A group with an unkillable process remains until the machine restarts.
    let _ = fs::remove_dir(group);
}
