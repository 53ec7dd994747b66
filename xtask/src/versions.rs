//! `cargo xtask plugin-versions`: older plugins in a newer host and the reverse, as the rules of the
//! plugin boundary promise. The work is `plugin-api/tests/versions/check.sh`, which builds the next
//! minor version out of this tree; here it gets its place and its limit.

use crate::{Failure, install, paths, process};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Two cold builds of the host and two plugins.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// What `plugin-versions` was asked.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A checkout of an older version, in the place of this tree as the older side.
    #[arg(long)]
    previous: Option<PathBuf>,
}

/// Builds both sides and serves every pair.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    install::programs(&[install::PYTHON])?;
    let mut command = Command::new("sh");
    command
        .arg(paths::root().join("plugin-api/tests/versions/check.sh"))
        .arg(paths::tools_dir().join("versions"))
        .current_dir(paths::root());
    if let Some(previous) = &args.previous {
        command.env("PREVIOUS", previous);
    }
    process::must("check.sh", &mut command, LIMIT).map(drop)
}
