//! The command line of crucible-benchmark; the work is done in the library.
#![deny(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    crucible_benchmark::cli::main()
}
