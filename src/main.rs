//! The `k8sha` binary; the library contains the implementation.

use std::process::ExitCode;

fn main() -> ExitCode {
    k8sha::cli::main()
}
