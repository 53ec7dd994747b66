//! The Crucible cache server: configuration, plugins, workers, admin.
//!
//! ```text
//!  cli, file, environment -> config (what the user wrote)
//!                         -> plan   (checked; everything else reads this)
//!  plan -> loader (plugins) -> start (instances, listeners, workers)
//!       worker: socket <-> kompio <-> protocol plugin <-> backend plugin
//! ```
//! What must always be true: the host knows no protocol and no store; it lends
//! plugins sockets' bytes, time, threads and a log, and gets out of the way.

#![deny(unsafe_code)]

pub mod admin;
pub mod cli;
pub mod config;
pub mod gate;
pub mod instances;
pub mod loader;
pub mod log;
pub mod manual;
pub mod observe;
pub mod plan;
pub mod plugin_check;
pub mod plugin_commands;
pub mod plugin_new;
pub mod reload;
pub mod services;
pub mod signals;
pub mod stacks;
pub mod start;
pub mod swap;
mod sync;
pub mod takeover;
pub mod tls;
pub mod watchdog;
pub mod worker;

use std::io::Write;

use cli::{Cli, CliError, Command};
use config::ConfigError;
use plan::{Plan, PlanError};
use start::StartError;

/// Why the program ended before it served: one sentence.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The command line.
    #[error("{0}")]
    Cli(#[from] CliError),
    /// What the user wrote.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// What it adds up to.
    #[error("{0}")]
    Plan(#[from] PlanError),
    /// Plugins, listeners, workers.
    #[error("{0}")]
    Start(#[from] StartError),
    /// A plugin command.
    #[error("{0}")]
    Load(#[from] loader::LoadError),
    /// Another process's listeners.
    #[error("{0}")]
    Takeover(#[from] takeover::TakeoverError),
    /// `plugin check`.
    #[error("{0}")]
    Check(#[from] plugin_check::CheckError),
    /// `plugin new`.
    #[error("{0}")]
    New(#[from] plugin_new::NewError),
    /// Standard input or output.
    #[error("cannot read or write: {0}")]
    Io(#[from] std::io::Error),
}

/// Does what the command line says; the exit code.
///
/// # Errors
/// One sentence; the exit code is 2 then.
pub fn run(cli: &Cli) -> Result<u8, RunError> {
    if let Some(Command::HashPassword) = &cli.command {
        return hash_password();
    }
    if let Some(Command::Manual { dir }) = &cli.command {
        manual::write(dir)?;
        return Ok(0);
    }
    let sources = cli.sources()?;
    let settings = config::load(&sources)?;
    if cli.command.is_some() || cli.print_config {
        signals::end_with_a_closed_pipe();
    }
    match &cli.command {
        Some(Command::Plugin(command)) => return plugin_commands::run(command, &settings),
        Some(Command::Reference) => {
            std::io::stdout().write_all(config::describe::reference(&settings).as_bytes())?;
            return Ok(0);
        }
        _ => {}
    }
    let plan = Plan::new(settings)?;
    if cli.print_config {
        std::io::stdout().write_all(config::describe::effective(&plan).as_bytes())?;
        return Ok(0);
    }
    if !cli.check_config {
        log::init(&plan.settings.logging);
    }
    let mut inherited = takeover::Inherited::default();
    if !cli.check_config {
        inherited = takeover::Inherited::take(&plan, cli.takeover)?;
        if plan.persists()
            && let Some(predecessor) = inherited.predecessor.take()
        {
            // What it keeps is whole when it has ended; clients wait in the queues.
            tracing::info!("waiting for the process before to leave its store");
            predecessor.end()?;
        }
    }
    let made = start::make(plan)?;
    if cli.check_config {
        made.destroy();
        println!("the configuration is good");
        return Ok(0);
    }
    Ok(made.serve(&sources, inherited)?)
}

fn hash_password() -> Result<u8, RunError> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    let hashed = services::users::Hashed::new(line.trim_end_matches(['\r', '\n']).as_bytes())?;
    println!("{}", hashed.write());
    Ok(0)
}
