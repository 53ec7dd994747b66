//! The emulated machine: a kernel, a RAM disk, a serial line, nothing else.
//!
//! What must always be true: the machine is given a limit and is gone after it; the verdict is the
//! guest's last line, never the absence of an error. Called by the command.

use super::guest;
use super::images::Image;
use crate::{Failure, process};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Some 30 s on an idle machine; the rest is for a crowded one.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Boots the kernel with the RAM disk and shows what it says; the guest's verdict.
pub(super) fn boot(image: &Image, ramdisk: &Path) -> Result<String, Failure> {
    let mut qemu = Command::new("qemu-system-x86_64");
    // Emulated throughout: slower than hardware virtualisation, and there wherever qemu is. The processor
    // has AES, and no cmpxchg16b: qemu 7.2 spoils the flags after it, and kernels since 6.11 panic of that.
    qemu.args(["-accel", "tcg", "-cpu", "Westmere,-cx16", "-smp", "4", "-m", "1536"])
        .args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"])
        .args(["-append", "console=ttyS0 panic=-1 quiet"])
        .arg("-kernel")
        .arg(&image.vmlinuz)
        .arg("-initrd")
        .arg(ramdisk);
    let ended = process::run("qemu", &mut qemu, LIMIT, true)?;
    verdict(&ended.lines)
}

/// What the guest said last; a failure when it said that something failed, or nothing.
fn verdict(lines: &[String]) -> Result<String, Failure> {
    let last = lines.iter().rev().find_map(|line| line.trim().strip_prefix(guest::VERDICT));
    match last {
        Some(verdict) if verdict.ends_with(" 0 failed") => Ok(verdict.trim().to_owned()),
        Some(verdict) => Err(verdict.trim().to_owned()),
        None => {
            let tail = lines.len().saturating_sub(20);
            Err(format!(
                "the machine gave no verdict; its last lines:\n{}",
                lines[tail..].join("\n")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_guest_that_says_so_has_passed() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let passed = format!("booting\n{}9 passed, 0 failed\r\nPower down", guest::VERDICT);
        assert_eq!(verdict(&lines(&passed)), Ok("9 passed, 0 failed".to_owned()));
        let failed = format!("{}8 passed, 10 failed", guest::VERDICT);
        assert_eq!(verdict(&lines(&failed)), Err("8 passed, 10 failed".to_owned()));
        let panicked = verdict(&lines("Kernel panic - not syncing"));
        assert!(panicked.is_err_and(|sentence| sentence.contains("not syncing")));
    }
}
