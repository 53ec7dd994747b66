//! Command-line words: flags with values, flags without, and the rest.

use std::str::FromStr;

pub(crate) struct Args {
    words: Vec<String>,
}

impl Args {
    pub(crate) fn new(words: impl Iterator<Item = String>) -> Self {
        Self { words: words.collect() }
    }

    /// The first word.
    pub(crate) fn command(&mut self) -> Option<String> {
        (!self.words.is_empty()).then(|| self.words.remove(0))
    }

    /// Takes `--name`.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let found = self.words.iter().position(|w| w == name);
        found.map(|i| self.words.remove(i)).is_some()
    }

    /// Takes `--name VALUE`.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        let Some(i) = self.words.iter().position(|w| w == name) else { return Ok(None) };
        if i + 1 >= self.words.len() {
            return Err(format!("{name} wants a value"));
        }
        self.words.remove(i);
        Ok(Some(self.words.remove(i)))
    }

    /// Takes `--name VALUE`, or the default.
    pub(crate) fn value<T: FromStr>(&mut self, name: &str, default: T) -> Result<T, String> {
        match self.text(name)? {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("{name} {text}: not a value")),
        }
    }

    /// Takes `--name A,B,..`, or the default.
    pub(crate) fn list<T: FromStr>(
        &mut self,
        name: &str,
        default: Vec<T>,
    ) -> Result<Vec<T>, String> {
        match self.text(name)? {
            None => Ok(default),
            Some(text) => text
                .split(',')
                .map(|part| part.parse().map_err(|_| format!("{name} {part}: not a value")))
                .collect(),
        }
    }

    /// Takes `--name SIZE,..` with units.
    pub(crate) fn sizes(&mut self, name: &str, default: Vec<usize>) -> Result<Vec<usize>, String> {
        match self.text(name)? {
            None => Ok(default),
            Some(text) => {
                text.split(',').map(|s| size(s).ok_or(format!("{name} {s}: not a size"))).collect()
            }
        }
    }

    /// What is left; unknown flags are refused.
    pub(crate) fn rest(self: &mut Args) -> Result<Vec<String>, String> {
        match self.words.iter().find(|w| w.starts_with("--")) {
            Some(flag) => Err(format!("unknown flag {flag}")),
            None => Ok(std::mem::take(&mut self.words)),
        }
    }
}

fn size(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[digits..].to_ascii_lowercase().as_str() {
        "" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return None,
    };
    text[..digits].parse::<usize>().ok().map(|n| n << unit)
}

/// `VmRSS` of this process in bytes.
pub(crate) fn rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or("VmRSS: 0 kB");
    line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}
