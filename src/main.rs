//! The command line of k8sha; what it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    k8sha::cli::main()
}
