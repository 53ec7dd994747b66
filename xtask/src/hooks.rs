//! `cargo xtask hooks`: a git hook that refuses a commit which format or house rules would refuse.
//! Only what takes seconds; lints and tests stay with `.ci/run`. Called by people, once a clone.

use crate::{Failure, paths, process};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

const MARK: &str = "# Written by `cargo xtask hooks`.";

fn script() -> String {
    format!(
        "#!/bin/sh\n{MARK}\nset -e\n\
         cargo fmt --all --check\n\
         cargo xtask tidy\n"
    )
}

/// Writes the hook; one that somebody else wrote is left alone.
pub(crate) fn hooks() -> Result<(), Failure> {
    let mut git = Command::new("git");
    git.args(["rev-parse", "--git-path", "hooks"]).current_dir(paths::root());
    let said = process::must("git rev-parse", &mut git, Duration::from_secs(20))?;
    let folder = said.lines.first().ok_or("git names no folder for hooks")?;
    let path = write(&paths::root().join(folder))?;
    println!("every commit is checked by {}", path.display());
    Ok(())
}

fn write(folder: &std::path::Path) -> Result<PathBuf, Failure> {
    let path = folder.join("pre-commit");
    let fail = |error: std::io::Error| format!("{}: {error}", path.display());
    if fs::read_to_string(&path).is_ok_and(|text| !text.contains(MARK)) {
        return Err(format!("{} is there already and not ours", path.display()));
    }
    fs::create_dir_all(folder).map_err(fail)?;
    fs::write(&path, script()).map_err(fail)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(fail)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hook_is_written_twice_and_never_over_another() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = write(folder.path()).expect("written");
        assert!(write(folder.path()).is_ok());
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o111, 0o111);
        fs::write(&path, "#!/bin/sh\n").expect("a file");
        assert!(write(folder.path()).is_err());
    }
}
