//! `crucible-host manual DIR`: man pages and shell completions, made of the
//! command line's own definition so that they cannot drift. Called by `run`
//! when packages are made.

use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;

/// Writes `DIR/man1/*.1` and `DIR/completions/*`.
///
/// # Errors
/// When a folder or file cannot be written.
pub fn write(dir: &Path) -> std::io::Result<()> {
    let (pages, completions) = (dir.join("man1"), dir.join("completions"));
    fs::create_dir_all(&pages)?;
    fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(Cli::command(), &pages)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "crucible-host", &completions)?;
    }
    Ok(())
}
