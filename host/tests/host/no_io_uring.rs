//! What is said where io_uring is forbidden.
//!
//! # Safety
//! Between fork and exec the child only makes two `prctl` calls on a filter that
//! was built before.
#![allow(unsafe_code)]

use std::os::unix::process::CommandExt as _;

use crate::support::{command, plugins};

/// A filter of system calls that answers EPERM to `io_uring_setup` and lets all others through.
fn without_io_uring() -> [libc::sock_filter; 4] {
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    [
        // The number of the call is the first word of what a filter sees.
        step(LOAD_WORD, 0, 0, 0),
        step(JUMP_IF_EQUAL, 0, 1, libc::SYS_io_uring_setup as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

#[test]
fn a_forbidden_io_uring_is_one_sentence_with_its_cure() {
    plugins();
    let mut command = command(&["--plugin", "ping@127.0.0.1:0", "--heap-size", "64MiB"]);
    let mut filter = without_io_uring();
    let forbid = move || {
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: plain calls; `program` and the filter it names are live locals.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program)
                    == 0
        };
        if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: the closure allocates nothing and takes no lock.
    unsafe { command.pre_exec(forbid) };
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let is_log = |line: &&str| line.contains(" INFO ") || line.contains(" WARN ");
    let lines: Vec<&str> = stderr.lines().filter(|line| !is_log(line)).collect();
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(lines.len(), 1, "one sentence: {stderr}");
    assert!(lines[0].starts_with("error: "), "{stderr}");
    // A sysctl that forbids it anyway has a sentence of its own.
    let cures = ["seccomp", "sysctl kernel.io_uring_disabled=0"];
    assert!(cures.iter().any(|cure| lines[0].contains(cure)), "{stderr}");
}
