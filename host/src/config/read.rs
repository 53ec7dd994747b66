//! Reading settings from a file, the environment and the command line.
//!
//! What must always be true: later sources win over earlier ones, each key on
//! its own; nothing unknown is passed over. Called by `main` and by a reload.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::keys::{KEYS, Key, LISTENER_KEYS, SECTIONS};
use super::value::{Address, Given, Setting};
use super::{CACHE, Listener, Settings, Store};

/// Why settings were refused. Each prints as one sentence with the cure.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}:{line}: not valid TOML: {reason}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where in it, from 1.
        line: usize,
        /// What the parser says.
        reason: String,
    },
    /// A key that nothing obeys.
    #[error("{origin}: unknown key {key} = {value}; {cure}")]
    UnknownKey {
        /// File, variable or option.
        origin: String,
        /// The key with its section.
        key: String,
        /// What it was set to.
        value: String,
        /// The nearest known key, or all of them.
        cure: String,
    },
    /// A value that does not fit its key.
    #[error("{origin}: {key} = {value}: {reason}")]
    BadValue {
        /// File, variable or option.
        origin: String,
        /// The key with its section.
        key: String,
        /// What it was set to.
        value: String,
        /// What was expected.
        reason: String,
    },
}

/// Where settings come from, besides the defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file.
    pub file: Option<PathBuf>,
    /// The environment, variables that begin with `CRUCIBLE_` only.
    pub environment: Vec<(String, String)>,
    /// Key, text and option, in the order of the command line.
    pub options: Vec<(String, String, String)>,
    /// `--plugin`: replaces the file's listeners.
    pub plugins: Vec<String>,
    /// `--bind`.
    pub bind: Option<String>,
}

/// Reads all sources.
///
/// # Errors
/// The first thing that is wrong.
pub fn load(sources: &Sources) -> Result<Settings, ConfigError> {
    let mut settings = Settings::default();
    if let Some(path) = &sources.file {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::File { path: path.clone(), source })?;
        read_file(&mut settings, path, &text)?;
    }
    for (name, text) in &sources.environment {
        read_variable(&mut settings, name, text)?;
    }
    for (key, text, option) in &sources.options {
        set_path(&mut settings, key, Given::Text(text.clone()), option)?;
    }
    if !sources.plugins.is_empty() {
        let listeners = sources.plugins.iter().map(|text| read_plugin_option(text));
        settings.listeners = Some(listeners.collect::<Result<_, _>>()?);
    }
    settings.bind = sources.bind.clone();
    Ok(settings)
}

/// `FILE|NAME[@ADDR]`.
fn read_plugin_option(text: &str) -> Result<Listener, ConfigError> {
    let (protocol, address) = match text.split_once('@') {
        None => (text, None),
        Some((protocol, address)) => {
            let read = Address::read(address).map_err(|reason| ConfigError::BadValue {
                origin: "--plugin".into(),
                key: "address".into(),
                value: format!("{address:?}"),
                reason,
            })?;
            (protocol, Some(read))
        }
    };
    Ok(Listener {
        protocol: protocol.to_owned(),
        address,
        origin: format!("--plugin {text}"),
        ..Listener::default()
    })
}

fn read_variable(settings: &mut Settings, name: &str, text: &str) -> Result<(), ConfigError> {
    let given = || Given::Text(text.to_owned());
    if let Some(key) = KEYS.iter().find(|key| key.variable() == name) {
        return apply(key, settings, &given(), name);
    }
    if let Some(key) = name.strip_prefix("CRUCIBLE_CACHE_") {
        return set_path(settings, &format!("cache.{}", key.to_ascii_lowercase()), given(), name);
    }
    // Others may share the prefix (CRUCIBLE_PLUGIN_PATH does), but not a section's name.
    let ours = SECTIONS.iter().find(|(section, _)| {
        name.strip_prefix("CRUCIBLE_")
            .and_then(|rest| {
                rest.to_ascii_lowercase().strip_prefix(section).map(|r| r.starts_with('_'))
            })
            .unwrap_or(false)
    });
    match ours {
        None => Ok(()),
        Some((section, _)) => Err(unknown("the environment", name, &given(), section)),
    }
}

/// Sets `section.key`.
fn set_path(
    settings: &mut Settings,
    path: &str,
    given: Given,
    origin: &str,
) -> Result<(), ConfigError> {
    if let Some(key) = KEYS.iter().find(|key| key.path == path) {
        return apply(key, settings, &given, origin);
    }
    let store = match path.split_once('.') {
        Some((CACHE, key)) => Some((CACHE, key)),
        Some(("backend", rest)) => rest.split_once('.'),
        _ => None,
    };
    let Some((name, key)) = store else {
        let section = path.split_once('.').map_or("", |(section, _)| section);
        return Err(unknown(origin, path, &given, section));
    };
    let store = settings.stores.entry(name.to_owned()).or_insert_with(|| new_store(origin));
    set_store_key(store, name, key, given, origin)
}

fn new_store(origin: &str) -> Store {
    Store { plugin: String::new(), settings: BTreeMap::new(), origin: origin.to_owned() }
}

fn set_store_key(
    store: &mut Store,
    name: &str,
    key: &str,
    given: Given,
    origin: &str,
) -> Result<(), ConfigError> {
    if key == if name == CACHE { "backend" } else { "plugin" } {
        store.plugin = String::given(&given).map_err(|reason| ConfigError::BadValue {
            origin: origin.to_owned(),
            key: if name == CACHE {
                "cache.backend".into()
            } else {
                format!("backend.{name}.plugin")
            },
            value: given.shown(),
            reason,
        })?;
    } else {
        store.settings.insert(key.to_owned(), given);
        store.origin = origin.to_owned();
    }
    Ok(())
}

fn apply<S>(key: &Key<S>, table: &mut S, given: &Given, origin: &str) -> Result<(), ConfigError> {
    (key.set)(table, given).map_err(|reason| ConfigError::BadValue {
        origin: origin.to_owned(),
        key: key.path.to_owned(),
        value: given.shown(),
        reason,
    })
}

fn read_file(settings: &mut Settings, path: &Path, text: &str) -> Result<(), ConfigError> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        ConfigError::Syntax {
            path: path.to_owned(),
            line: 1 + text.as_bytes()[..at].iter().filter(|&&b| b == b'\n').count(),
            reason: error.message().replace('\n', " "),
        }
    })?;
    let origin = path.display().to_string();
    for (section, value) in table {
        match (section.as_str(), value) {
            ("listener", toml::Value::Array(items)) => {
                let listeners = items
                    .into_iter()
                    .enumerate()
                    .map(|(i, item)| read_listener(item, &format!("{origin}: listener {}", i + 1)));
                settings.listeners = Some(listeners.collect::<Result<_, _>>()?);
            }
            ("backend", toml::Value::Table(stores)) => {
                for (name, value) in stores {
                    let toml::Value::Table(table) = value else {
                        let path = format!("backend.{name}");
                        return Err(unknown(&origin, &path, &Given::Toml(value), "backend"));
                    };
                    for (key, value) in table {
                        let path = format!("backend.{name}.{key}");
                        set_path(settings, &path, Given::Toml(value), &origin)?;
                    }
                }
            }
            (_, toml::Value::Table(table)) if known_section(&section) => {
                for (key, value) in table {
                    let path = format!("{section}.{key}");
                    for (path, value) in flat(&section, path, value) {
                        set_path(settings, &path, Given::Toml(value), &origin)?;
                    }
                }
            }
            (_, value) => return Err(unknown(&origin, &section, &Given::Toml(value), "")),
        }
    }
    Ok(())
}

/// A `tls` table as the keys in it; anything else as it is.
fn flat(section: &str, path: String, value: toml::Value) -> Vec<(String, toml::Value)> {
    match value {
        toml::Value::Table(table) if section != CACHE && path.ends_with("tls") => {
            table.into_iter().map(|(key, value)| (format!("{path}.{key}"), value)).collect()
        }
        value => vec![(path, value)],
    }
}

fn known_section(name: &str) -> bool {
    name == CACHE || SECTIONS.iter().any(|(section, _)| *section == name)
}

fn read_listener(value: toml::Value, origin: &str) -> Result<Listener, ConfigError> {
    let mut listener = Listener { origin: origin.to_owned(), ..Listener::default() };
    let toml::Value::Table(table) = value else {
        return Err(unknown(origin, "listener", &Given::Toml(value), "listener"));
    };
    for (name, value) in table {
        match (name.as_str(), value) {
            ("settings", toml::Value::Table(own)) => {
                listener.settings = own.into_iter().map(|(k, v)| (k, Given::Toml(v))).collect();
            }
            ("users", toml::Value::Table(users)) => {
                for (user, hash) in users {
                    let given = Given::Toml(hash);
                    let hash = String::given(&given).map_err(|reason| ConfigError::BadValue {
                        origin: origin.to_owned(),
                        key: format!("users.{user}"),
                        value: "(not shown)".into(),
                        reason,
                    })?;
                    listener.users.insert(user, hash);
                }
            }
            (_, value) => {
                for (path, value) in flat("listener", name.clone(), value) {
                    let given = Given::Toml(value);
                    let Some(key) = LISTENER_KEYS.iter().find(|key| key.path == path) else {
                        return Err(unknown(origin, &path, &given, "listener"));
                    };
                    apply(key, &mut listener, &given, origin)?;
                }
            }
        }
    }
    if listener.protocol.is_empty() {
        return Err(ConfigError::BadValue {
            origin: origin.to_owned(),
            key: "protocol".into(),
            value: "(not set)".into(),
            reason: "name the protocol's plugin, as in protocol = \"resp\"".into(),
        });
    }
    Ok(listener)
}

fn unknown(origin: &str, key: &str, given: &Given, section: &str) -> ConfigError {
    let names: Vec<String> = match section {
        "listener" => LISTENER_KEYS
            .iter()
            .map(|k| k.path.to_owned())
            .chain(["users".into(), "settings".into()])
            .collect(),
        _ if SECTIONS.iter().any(|(name, _)| *name == section) => KEYS
            .iter()
            .filter(|k| k.parts().0 == section)
            .map(|k| if key.starts_with("CRUCIBLE_") { k.variable() } else { k.path.to_owned() })
            .collect(),
        _ => SECTIONS
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .chain([CACHE.to_owned(), "backend".into(), "listener".into()])
            .collect(),
    };
    let nearest = names.iter().min_by_key(|name| distance(name, key)).cloned().unwrap_or_default();
    let cure = if distance(&nearest, key) <= 3 {
        format!("did you mean {nearest}?")
    } else {
        format!("known: {}", names.join(", "))
    };
    let value = match given {
        Given::Toml(toml::Value::Table(_)) => "{..}".into(),
        Given::Toml(toml::Value::Array(_)) => "[..]".into(),
        other => other.shown(),
    };
    ConfigError::UnknownKey { origin: origin.to_owned(), key: key.to_owned(), value, cure }
}

/// Number of single-letter changes between two words (Levenshtein).
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let cost = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Settings, String> {
        let mut settings = Settings::default();
        read_file(&mut settings, Path::new("c.toml"), text)
            .map(|()| settings)
            .map_err(|e| e.to_string())
    }

    #[test]
    fn a_wrong_file_is_refused_with_key_value_place_and_cure() {
        let table: &[(&str, &str)] = &[
            (
                "[workers]\nthread = 2",
                "c.toml: unknown key workers.thread = 2; did you mean workers.threads?",
            ),
            ("[worker]\nthreads = 2", "c.toml: unknown key worker = {..}; did you mean workers?"),
            ("threads = 2", "c.toml: unknown key threads = 2; known: workers, plugins"),
            (
                "[workers]\nthreads = \"many\"",
                "c.toml: workers.threads = \"many\": expected a whole number",
            ),
            (
                "[workers]\nthreads = -1",
                "c.toml: workers.threads = -1: expected a whole number from 0 to",
            ),
            (
                "[workers]\nthreads = [1]",
                "c.toml: workers.threads = [1]: expected a whole number, found array",
            ),
            (
                "[workers]\ncpu_affinity = \"0-\"",
                "c.toml: workers.cpu_affinity = \"0-\": `0-` in a CPU list",
            ),
            (
                "[shutdown]\ndrain_timeout = 10",
                "c.toml: shutdown.drain_timeout = 10: expected a duration such as",
            ),
            (
                "[limits]\ninput_max = \"64XB\"",
                "c.toml: limits.input_max = \"64XB\": expected a size such as",
            ),
            (
                "[logging]\nlevel = \"loud\"",
                "c.toml: logging.level = \"loud\": expected one of \"off\"",
            ),
            (
                "[[listener]]\nprotocol = \"resp\"\nport = 1",
                "c.toml: listener 1: unknown key port = 1; known: protocol",
            ),
            (
                "[[listener]]\naddress = \"127.0.0.1:1\"",
                "c.toml: listener 1: protocol = (not set): name the protocol's plugin",
            ),
            (
                "[[listener]]\nprotocol = \"resp\"\naddress = \"6379\"",
                "c.toml: listener 1: address = \"6379\": expected an address such as",
            ),
            ("[backend]\nx = 1", "c.toml: unknown key backend.x = 1"),
            ("[workers]\nthreads = ", "c.toml:2: not valid TOML: "),
            ("a = 1\n\nb = 'x\n", "c.toml:3: not valid TOML: "),
        ];
        for (text, sentence) in table {
            let error = file(text).expect_err(text);
            assert!(
                error.starts_with(sentence),
                "{text}\n  gave     {error}\n  expected {sentence}"
            );
            assert!(!error.contains('\n'), "one line: {error}");
        }
    }

    #[test]
    fn keys_of_a_store_are_kept_for_its_plugin() {
        let settings = file(
            "[cache]\nbackend = \"slab\"\nheap_size = \"1GiB\"\nodd = 3\n\
             [backend.big]\nplugin = \"heap\"\nx = true",
        )
        .unwrap();
        assert_eq!(settings.stores[CACHE].plugin, "slab");
        assert_eq!(settings.stores[CACHE].settings.len(), 2);
        assert_eq!(settings.stores["big"].plugin, "heap");
        assert_eq!(settings.stores["big"].settings["x"].clone().into_json(), true);
    }

    #[test]
    fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(
            &path,
            "[workers]\nthreads = 1\n[limits]\nmax_connections = 5\n[uring]\nbacklog = 9",
        )
        .unwrap();
        let settings = load(&Sources {
            file: Some(path),
            environment: vec![
                ("CRUCIBLE_WORKERS_THREADS".into(), "2".into()),
                ("CRUCIBLE_LIMITS_MAX_CONNECTIONS".into(), "6".into()),
                ("CRUCIBLE_CACHE_HEAP_SIZE".into(), "64MiB".into()),
                ("CRUCIBLE_PLUGIN_PATH".into(), "/x".into()),
            ],
            options: vec![("workers.threads".into(), "3".into(), "--threads".into())],
            ..Sources::default()
        })
        .unwrap();
        assert_eq!(settings.workers.threads, Some(3));
        assert_eq!(settings.limits.max_connections, 6);
        assert_eq!(settings.uring.backlog, 9);
        assert_eq!(settings.stores[CACHE].settings["heap_size"].clone().into_json(), "64MiB");
    }

    #[test]
    fn a_misspelt_variable_of_a_known_section_is_refused() {
        let sources = Sources {
            environment: vec![("CRUCIBLE_WORKERS_THREAD".into(), "2".into())],
            ..Sources::default()
        };
        let error = load(&sources).unwrap_err().to_string();
        assert_eq!(
            error,
            "the environment: unknown key CRUCIBLE_WORKERS_THREAD = \"2\"; did you mean CRUCIBLE_WORKERS_THREADS?"
        );
    }
}
