//! The command line of k8sha before machines that are system containers; what it does is in the
//! libraries.

use std::process::ExitCode;

fn main() -> ExitCode {
    k8sha::cli::with_machines(&k8sha_lab::Containers)
}
