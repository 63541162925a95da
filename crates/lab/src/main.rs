//! The command line of k8sha with system containers as machines; the code is in the libraries.

use std::process::ExitCode;

fn main() -> ExitCode {
    k8sha::cli::with_machines(&k8sha_lab::Containers)
}
