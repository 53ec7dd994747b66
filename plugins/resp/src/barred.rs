//! Commands that a listener does not serve under their own names: disabled, or renamed.
//!
//! What must always be true: a barred name answers as an unknown one, in a transaction and for a
//! value that streams as well; a new name never hides a command. Made once; asked for each command
//! that is no plain GET or SET.

use std::collections::HashMap;

use crate::settings::Settings;
use crate::table::Cmd;

/// Which commands are barred, and what some are called instead.
#[derive(Debug, Default)]
pub struct Barred {
    bits: [u64; 4],
    /// Lower-case names.
    renamed: HashMap<Vec<u8>, Cmd>,
}

impl Barred {
    /// Reads the settings.
    ///
    /// # Errors
    /// The key, and a sentence.
    pub fn new(settings: &Settings) -> Result<Self, (&'static str, String)> {
        let mut barred = Self::default();
        let known = |name: &str| Cmd::find(name.as_bytes()).ok_or(format!("no command {name:?}"));
        for name in &settings.disabled_commands {
            barred.bar(known(name).map_err(|e| ("disabled_commands", e))?);
        }
        for (name, new) in &settings.renamed_commands {
            let refused = |reason| ("renamed_commands", reason);
            let command = known(name).map_err(refused)?;
            if new.is_empty() || new.bytes().any(|b| b <= b' ' || b == 0x7f) {
                return Err(refused(format!("{new:?} is no name for {name}")));
            }
            if Cmd::find(new.as_bytes()).is_some() {
                return Err(refused(format!("{new} is a command; {name} needs another name")));
            }
            if barred.has(command) {
                return Err(refused(format!("{name} is disabled; it needs no name")));
            }
            let other = barred.renamed.insert(new.to_ascii_lowercase().into_bytes(), command);
            if other.is_some() {
                return Err(refused(format!("{new} would be two commands")));
            }
        }
        let renamed: Vec<Cmd> = barred.renamed.values().copied().collect();
        renamed.into_iter().for_each(|command| barred.bar(command));
        Ok(barred)
    }

    fn bar(&mut self, command: Cmd) {
        self.bits[command as usize / 64] |= 1 << (command as usize % 64);
    }

    /// Whether a command is not served under its own name.
    #[inline]
    pub fn has(&self, command: Cmd) -> bool {
        self.bits[command as usize / 64] >> (command as usize % 64) & 1 != 0
    }

    /// The command that a new name stands for.
    pub fn renamed(&self, name: &[u8]) -> Option<Cmd> {
        if self.renamed.is_empty() {
            return None;
        }
        self.renamed.get(&name.to_ascii_lowercase()).copied()
    }

    /// Whether a name is that of a barred command.
    pub fn bars(&self, name: &[u8]) -> bool {
        self.bits != [0; 4] && Cmd::find(name).is_some_and(|command| self.has(command))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_cannot_be_is_refused_with_its_key() {
        let of = |disabled: &[&str], renamed: &[(&str, &str)]| {
            let settings = Settings {
                disabled_commands: disabled.iter().map(ToString::to_string).collect(),
                renamed_commands: renamed
                    .iter()
                    .map(|(from, to)| ((*from).to_owned(), (*to).to_owned()))
                    .collect(),
                ..Settings::default()
            };
            Barred::new(&settings).map_err(|(key, reason)| format!("{key}: {reason}"))
        };
        for (disabled, renamed, words) in [
            (&["NOSUCH"][..], &[][..], "disabled_commands: no command \"NOSUCH\""),
            (&[], &[("NOSUCH", "x")], "renamed_commands: no command"),
            (&[], &[("KEYS", "get")], "renamed_commands: get is a command"),
            (&[], &[("KEYS", "")], "renamed_commands: \"\" is no name"),
            (&[], &[("KEYS", "a b")], "is no name for KEYS"),
            (&[], &[("KEYS", "x"), ("FLUSHALL", "X")], "would be two commands"),
            (&["keys"], &[("KEYS", "x")], "KEYS is disabled"),
        ] {
            let reason = of(disabled, renamed).expect_err(words);
            assert!(reason.contains(words), "{reason}");
        }
        let barred = of(&["FlushAll"], &[("keys", "List")]).unwrap();
        assert!(barred.has(Cmd::Flushall) && barred.has(Cmd::Keys) && !barred.has(Cmd::Get));
        assert!(barred.bars(b"flushALL") && !barred.bars(b"get") && !barred.bars(b"list"));
        assert_eq!((barred.renamed(b"LIST"), barred.renamed(b"keys")), (Some(Cmd::Keys), None));
    }
}
