//! Helpers of the script tables: commands as words, replies as written.
#![allow(dead_code, unreachable_pub)]

use crucible_plugin_testkit::{Conn, ModelBackend, Script, TestHost};
use crucible_resp::Resp;

/// A command of words split at blanks; `''` is the empty word, `~` a blank inside one.
pub fn command(line: &str) -> Vec<u8> {
    let words: Vec<&str> = line.split(' ').map(|w| if w == "''" { "" } else { w }).collect();
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.replace('~', " ");
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    out
}

/// A reply as it stands on the wire, blanks between lines: `"$1 v"`, `"*2 :1 +OK"`.
pub fn reply(text: &str) -> Vec<u8> {
    if text.is_empty() {
        return Vec::new();
    }
    let lines = text.split(' ').map(|line| format!("{line}\r\n"));
    lines.collect::<String>().into_bytes()
}

/// An error line.
pub fn error(text: &str) -> Vec<u8> {
    format!("-{text}\r\n").into_bytes()
}

/// A table of commands and replies: a reply that begins with `-` is an error text.
pub fn script(steps: &[(&str, &str)]) -> Script {
    script_with("{}", steps)
}

/// The same under settings.
pub fn script_with(settings: &str, steps: &[(&str, &str)]) -> Script {
    Script::of::<Resp>(settings).steps(steps.iter().map(|(line, text)| {
        let answer = match text.strip_prefix('-') {
            Some(text) => error(text),
            None => reply(text),
        };
        (command(line), answer)
    }))
}

/// A host with one resp listener over the model.
pub fn host(settings: &str, model: &str) -> (TestHost, crucible_plugin_testkit::ProtocolId) {
    let host = TestHost::new();
    let store = host.backend::<ModelBackend>(model);
    let resp = host.protocol::<Resp>(settings, store);
    (host, resp)
}

/// Sends a command and compares the answer, in the notation of [`reply`].
#[track_caller]
pub fn expect(conn: &Conn, line: &str, text: &str) {
    let answer = match text.strip_prefix('-') {
        Some(text) => error(text),
        None => reply(text),
    };
    conn.expect(&command(line), &answer);
}
