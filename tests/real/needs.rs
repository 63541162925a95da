//! The requirements of tests of the real tier, and how missing ones are reported.

use std::io::Write;
use std::path::Path;

/// Whether the real tier is enabled, by `K8SHA_REAL=1`. If it is, a missing requirement is a failure: a
/// machine without the programs must not look like one that passed.
pub fn asked_for(programs: &[&str]) -> bool {
    if std::env::var_os("K8SHA_REAL").is_none_or(|value| value != "1") {
        say(
            "SKIPPED: the real tier runs with K8SHA_REAL=1, as root, with the packages of ci/prerequisites.sh",
        );
        return false;
    }
    assert!(rustix::process::geteuid().is_root(), "K8SHA_REAL=1 needs root");
    let missing: Vec<_> = programs.iter().filter(|program| !is_installed(program)).collect();
    assert!(
        missing.is_empty(),
        "not installed: {missing:?}; ci/prerequisites.sh installs their packages"
    );
    true
}

/// Prints a line for the user who runs the tests. The harness captures what `eprintln!` prints.
pub fn say(line: &str) {
    // A closed standard error is not a reason to fail.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin"]).any(|dir| Path::new(dir).join(program).is_file())
}
