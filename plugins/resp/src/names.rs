//! What commands are called on this listener: some under other names, some not at all.
//!
//! A command that was disabled, or given another name, is unknown under its own, in the words of a
//! command that never was; everything that takes a command's name (`COMMAND INFO`, `COMMAND
//! GETKEYS`, `LATENCY HISTOGRAM`) knows what clients may say. Made at start, read by `requests` for
//! each command that is not plain.

use std::collections::HashMap;

use crate::settings::Settings;
use crate::table::{Cmd, TABLE};

/// Longest name that a command may be given, in bytes.
const NAME_LEN_BYTES_MAX: usize = 64;

/// Names that differ from the table's.
#[derive(Debug)]
pub struct Names {
    /// By row: not known under its own name.
    gone: Box<[bool]>,
    /// By row: not known at all.
    disabled: Box<[bool]>,
    /// New names, in lower case.
    renamed: HashMap<Vec<u8>, Cmd>,
}

/// A setting that does not make sense: its name, and why.
pub type Wrong = (&'static str, String);

fn known(setting: &'static str, name: &str) -> Result<Cmd, Wrong> {
    let unknown = || (setting, format!("there is no command {name:?}"));
    Cmd::find(name.as_bytes()).ok_or_else(unknown)
}

impl Names {
    /// The names that the settings ask for; `None` when they are the table's.
    ///
    /// # Errors
    /// The setting that names a command that is none, or gives one name to two.
    pub fn new(settings: &Settings) -> Result<Option<Names>, Wrong> {
        let (disabled, renamed) = (&settings.disabled_commands, &settings.renamed_commands);
        if disabled.is_empty() && renamed.is_empty() {
            return Ok(None);
        }
        let mut names = Names {
            gone: TABLE.iter().map(|_| false).collect(),
            disabled: TABLE.iter().map(|_| false).collect(),
            renamed: HashMap::new(),
        };
        for name in disabled {
            let row = known("disabled_commands", name)? as usize;
            (names.gone[row], names.disabled[row]) = (true, true);
        }
        let key = "renamed_commands";
        for (name, new) in renamed {
            let command = known(key, name)?;
            if names.gone[command as usize] {
                return Err((key, format!("{name:?} is disabled, or renamed twice")));
            }
            names.gone[command as usize] = true;
            let fits = new.bytes().all(|b| b.is_ascii_graphic()) && !new.contains('|');
            if new.is_empty() || new.len() > NAME_LEN_BYTES_MAX || !fits {
                let text = format!(
                    "{new:?} cannot name a command: 1 to {NAME_LEN_BYTES_MAX} printable letters \
                     without blanks and bars (to take {name:?} away, use disabled_commands)"
                );
                return Err((key, text));
            }
            let lower = new.to_ascii_lowercase().into_bytes();
            if names.renamed.insert(lower, command).is_some() {
                return Err((key, format!("{new:?} is given to two commands")));
            }
        }
        for new in names.renamed.keys() {
            if Cmd::find(new).is_some_and(|command| !names.gone[command as usize]) {
                let new = String::from_utf8_lossy(new);
                return Err((key, format!("{new:?} is the name of another command")));
            }
        }
        Ok(Some(names))
    }

    /// The command that clients call so.
    pub fn find(&self, name: &[u8]) -> Option<Cmd> {
        if let Some(command) = self.renamed.get(&name.to_ascii_lowercase()) {
            return Some(*command);
        }
        Cmd::find(name).filter(|command| !self.gone[*command as usize])
    }

    /// Whether nobody can call it.
    pub fn is_disabled(&self, command: Cmd) -> bool {
        self.disabled[command as usize]
    }

    /// Whether it is known under its own name.
    pub fn is_plain(&self, command: Cmd) -> bool {
        !self.gone[command as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(disabled: &[&str], renamed: &[(&str, &str)]) -> Result<Option<Names>, Wrong> {
        Names::new(&Settings {
            disabled_commands: disabled.iter().map(|s| (*s).to_owned()).collect(),
            renamed_commands: renamed
                .iter()
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
                .collect(),
            ..Settings::default()
        })
    }

    #[test]
    fn a_name_belongs_to_one_command_and_a_command_has_one_name() {
        assert!(names(&[], &[]).unwrap().is_none());
        let swapped = names(&["flushall"], &[("GET", "set"), ("Set", "GET")]).unwrap().unwrap();
        assert_eq!(swapped.find(b"sEt"), Some(Cmd::Get));
        assert_eq!(swapped.find(b"get"), Some(Cmd::Set));
        assert_eq!(swapped.find(b"FLUSHALL"), None);
        assert_eq!(swapped.find(b"DEL"), Some(Cmd::Del));
        assert!(swapped.is_disabled(Cmd::Flushall) && !swapped.is_disabled(Cmd::Get));
        for (disabled, renamed, key, says) in [
            (&["NOSUCH"][..], &[][..], "disabled_commands", "no command \"NOSUCH\""),
            (&[], &[("NOSUCH", "x")], "renamed_commands", "no command \"NOSUCH\""),
            (&["GET"], &[("get", "x")], "renamed_commands", "is disabled"),
            (&[], &[("GET", "del")], "renamed_commands", "is the name of another command"),
            (&[], &[("GET", "x"), ("SET", "X")], "renamed_commands", "given to two"),
            (&[], &[("GET", "")], "renamed_commands", "use disabled_commands"),
            (&[], &[("GET", "a b")], "renamed_commands", "cannot name a command"),
        ] {
            let (wrong, why) = names(disabled, renamed).unwrap_err();
            assert!(wrong == key && why.contains(says), "{wrong}: {why}");
        }
    }
}
