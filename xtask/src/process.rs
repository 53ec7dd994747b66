//! Starting programs so that each is bounded in time and none is left behind.
//! A [`Guard`] kills its whole process group when dropped; [`run`] gives a program a deadline.
//! Called by every task that starts something.

use crate::{Failure, sys};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// How often a child that says nothing is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long the pipes of a program that has ended may be silent before they are given up.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(10);

/// A child, and with it everything the child starts.
pub(crate) struct Guard {
    child: Child,
    name: String,
}

impl Guard {
    /// Starts the command in a group of its own, without stdin, on one CPU if named.
    pub(crate) fn start(
        name: &str,
        command: &mut Command,
        cpu: Option<usize>,
    ) -> Result<Self, Failure> {
        sys::confine(command, cpu);
        let child = command.stdin(Stdio::null()).spawn().map_err(|error| {
            format!("cannot start {name} ({:?}): {error}", command.get_program())
        })?;
        sys::watch_group(child.id() as i32);
        Ok(Self { child, name: name.to_owned() })
    }

    /// The process id, valid while the guard lives.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the program has ended, and how.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until the program ends; past the deadline the group is killed and that is a failure.
    pub(crate) fn wait(mut self, limit: Duration) -> Result<ExitStatus, Failure> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return Ok(status);
            }
            if start.elapsed() > limit {
                return Err(format!("{} did not end within {} s", self.name, limit.as_secs()));
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Asks the program to end with SIGTERM and gives it `limit` before it is killed.
    pub(crate) fn stop(self, limit: Duration) -> Result<ExitStatus, Failure> {
        sys::ask_to_end(&self.child);
        self.wait(limit)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let group = self.pid() as i32;
        sys::signal_group(group, libc::SIGKILL);
        let _ = self.child.wait();
        sys::forget_group(group);
    }
}

/// How a program ended and what it said.
pub(crate) struct Ended {
    /// Exit status zero.
    pub(crate) success: bool,
    /// Standard output, then standard error, line by line as they came.
    pub(crate) lines: Vec<String>,
}

/// Runs a program to its end within `limit`, showing its lines as they come if `show` is set.
pub(crate) fn run(
    name: &str,
    command: &mut Command,
    limit: Duration,
    show: bool,
) -> Result<Ended, Failure> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut guard = Guard::start(name, command, None)?;
    let (sender, receiver) = mpsc::channel();
    let out: Box<dyn Read + Send> = Box::new(guard.child.stdout.take().expect("piped above"));
    let err: Box<dyn Read + Send> = Box::new(guard.child.stderr.take().expect("piped above"));
    for stream in [out, err] {
        let sender = sender.clone();
        thread::spawn(move || forward_lines(stream, &sender));
    }
    drop(sender);
    let deadline = Instant::now() + limit;
    let mut lines = Vec::new();
    let late = || format!("{name} did not end within {} s", limit.as_secs());
    let mut ended = false;
    loop {
        let left = deadline.checked_duration_since(Instant::now()).ok_or_else(late)?;
        let patience = if ended { LAST_WORDS_LIMIT } else { LOOK_EVERY };
        match receiver.recv_timeout(left.min(patience)) {
            Ok(line) => {
                if show {
                    println!("{line}");
                }
                lines.push(line);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            // Somebody outside the group holds the pipes, and has said nothing for long.
            Err(mpsc::RecvTimeoutError::Timeout) if ended => break,
            // What the program wrote last is still in the pipes, and its children may keep those open: with
            // the children gone, the pipes end where the last words do.
            Err(mpsc::RecvTimeoutError::Timeout) if guard.ended().is_some() => {
                sys::signal_group(guard.pid() as i32, libc::SIGKILL);
                ended = true;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
    }
    let left = deadline.checked_duration_since(Instant::now()).ok_or_else(late)?;
    let status = guard.wait(left)?;
    Ok(Ended { success: status.success(), lines })
}

fn forward_lines(stream: impl Read, lines: &mpsc::Sender<String>) {
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line), Ok(read) if read > 0) {
        while line.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            line.pop();
        }
        if lines.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
            return;
        }
        line.clear();
    }
}

/// The last result among the JSON lines that crucible-benchmark wrote to a file.
pub(crate) fn result_of(lines: &Path) -> Result<Value, Failure> {
    let text =
        fs::read_to_string(lines).map_err(|error| format!("{}: {error}", lines.display()))?;
    text.lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|line| line["kind"] == "result")
        .ok_or_else(|| "crucible-benchmark gave no result".to_owned())
}

/// Runs a program that must succeed; its last lines are in the failure.
pub(crate) fn must(name: &str, command: &mut Command, limit: Duration) -> Result<Ended, Failure> {
    let ended = run(name, command, limit, false)?;
    if ended.success {
        return Ok(ended);
    }
    let tail = ended.lines.len().saturating_sub(15);
    Err(format!("{name} failed:\n{}", ended.lines[tail..].join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_past_its_deadline_is_killed_with_its_children() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep 1000 & echo $!; wait"]);
        let start = Instant::now();
        let outcome = run("sleeper", &mut shell, Duration::from_millis(300), false);
        assert!(outcome.is_err_and(|sentence| sentence.contains("did not end within")));
        assert!(start.elapsed() < Duration::from_secs(100));
    }

    #[test]
    fn last_words_are_read_although_a_child_keeps_the_pipes_open() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "sleep 1000 & i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done"]);
        let start = Instant::now();
        let ended = run("speaker", &mut shell, Duration::from_secs(60), false).expect("runs");
        assert_eq!(ended.lines.last().map(String::as_str), Some("1999"));
        assert!(start.elapsed() < LAST_WORDS_LIMIT, "the pipes were given up");
    }

    #[test]
    fn both_streams_and_the_status_are_reported() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo out; echo err >&2; exit 3"]);
        let ended = run("speaker", &mut shell, Duration::from_secs(60), false).expect("runs");
        assert!(!ended.success);
        let mut lines = ended.lines;
        lines.sort();
        assert_eq!(lines, ["err", "out"]);
    }

    #[test]
    fn a_failed_program_names_itself_and_its_last_words() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo the reason; exit 1"]);
        let sentence = must("tool", &mut shell, Duration::from_secs(60)).err().expect("fails");
        assert!(sentence.contains("tool failed") && sentence.contains("the reason"), "{sentence}");
    }
}
