//! `crucible-host`: the program. Everything is in the library; this is wiring.

#![deny(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use crucible_host::cli::Cli;

fn main() -> ExitCode {
    // A panic of the host is a bug: say so in a line, never as a backtrace.
    std::panic::set_hook(Box::new(|info| {
        let text = info.to_string().replace('\n', " ");
        eprintln!("crucible-host: bug: {text}");
    }));
    match crucible_host::run(&Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
