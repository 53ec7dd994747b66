//! `cargo xtask hooks`: git runs the hooks of `contrib/hooks` from now on, in this clone.
//! They check format, lints and house rules; tests stay with `.ci/run`. Called by people, once a clone.

use crate::{Failure, paths, process};
use std::process::Command;
use std::time::Duration;

const FOLDER: &str = "contrib/hooks";
const LIMIT: Duration = Duration::from_secs(20);

/// Names the folder to git; another one that somebody chose is left alone.
pub(crate) fn hooks() -> Result<(), Failure> {
    let git = |args: &[&str]| {
        let mut git = Command::new("git");
        git.args(args).current_dir(paths::root());
        process::run("git", &mut git, LIMIT, false)
    };
    let before = git(&["config", "--get", "core.hooksPath"])?;
    match before.lines.first().map(String::as_str) {
        None | Some("" | FOLDER) => {}
        Some(other) => return Err(format!("git runs the hooks of {other}: core.hooksPath is set")),
    }
    if !git(&["config", "core.hooksPath", FOLDER])?.success {
        return Err("git config failed".to_owned());
    }
    println!("every commit is checked by {FOLDER}/pre-commit");
    Ok(())
}
