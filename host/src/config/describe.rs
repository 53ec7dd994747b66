//! The configuration, written out: as TOML with comments, and as the reference
//! page in docs/configuration.md.
//!
//! What must always be true: both come from the same tables that reading uses;
//! what [`effective`] prints is a valid file that gives the same plan. Called
//! for `--print-config` and `reference`, and by the admin server.

use std::fmt::Write as _;

use serde_json::Value;

use super::keys::{KEYS, Key, LISTENER_KEYS, SECTIONS};
use super::value::{Address, Setting, quoted};
use super::{CACHE, Settings};
use crate::instances;
use crate::loader::{Loaded, Loader};
use crate::plan::{Plan, usual_heap_bytes};

/// A setting of a plugin, from its schema.
#[derive(Debug)]
pub struct Own {
    /// Its key.
    pub name: String,
    /// What it does.
    pub help: String,
    /// Its default as TOML; `None` when it has none.
    pub default: Option<String>,
}

/// A plugin's own settings.
#[must_use]
pub fn own_settings(schema: &Value) -> Vec<Own> {
    let Some(properties) = schema["properties"].as_object() else { return Vec::new() };
    properties
        .iter()
        .map(|(name, about)| Own {
            name: name.clone(),
            help: about["description"].as_str().unwrap_or_default().replace('\n', " "),
            default: toml_of(&about["default"]),
        })
        .collect()
}

/// JSON as TOML on one line; `None` for null.
fn toml_of(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().filter_map(toml_of).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) => {
            let pairs =
                map.iter().filter_map(|(k, v)| Some(format!("{} = {}", key_text(k), toml_of(v)?)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
    })
}

fn key_text(key: &str) -> String {
    let bare = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if bare && !key.is_empty() { key.to_owned() } else { quoted(key) }
}

fn comment(text: &mut String, words: &str) {
    let mut line = String::new();
    for word in words.split_whitespace() {
        if line.len() + word.len() > 96 {
            let _ = writeln!(text, "#{line}");
            line.clear();
        }
        let _ = write!(line, " {word}");
    }
    if !line.is_empty() {
        let _ = writeln!(text, "#{line}");
    }
}

fn entry<S>(text: &mut String, key: &Key<S>, table: &S) {
    comment(text, key.help);
    let name = key.parts().1;
    match (key.show)(table) {
        Some(value) => {
            let _ = writeln!(text, "{name} = {value}");
        }
        None => {
            let _ = writeln!(text, "# {name} is not set: {}", key.unset);
        }
    }
}

/// The effective configuration, commented.
#[must_use]
pub fn effective(plan: &Plan) -> String {
    let settings = &plan.settings;
    let mut loader = Loader::new(&settings.plugins);
    let mut text = String::from("# The effective configuration of crucible-host.\n");
    for (section, about) in SECTIONS {
        let _ = writeln!(text, "\n# {about}\n[{section}]");
        for key in KEYS.iter().filter(|key| key.parts().0 == *section) {
            entry(&mut text, key, settings);
        }
    }
    for store in &plan.stores {
        let (head, key) = match store.name.as_str() {
            CACHE => (format!("[{CACHE}]"), "backend"),
            name => (format!("[backend.{}]", key_text(name)), "plugin"),
        };
        let _ = writeln!(text, "\n# A store: which plugin, and the plugin's own settings.\n{head}");
        let _ = writeln!(text, "{key} = {}", quoted(&store.plugin));
        let plugin = loader.load(&store.plugin).ok();
        own(&mut text, plugin.as_ref(), &store.settings);
    }
    for listener in &plan.listeners {
        text.push_str("\n# Where a protocol is served.\n[[listener]]\n");
        let _ = writeln!(text, "protocol = {}", quoted(&listener.protocol));
        match &listener.address {
            Address::Tcp(address) => {
                let _ = writeln!(text, "address = {}", quoted(&address.to_string()));
            }
            Address::Unix(path) => {
                let _ = writeln!(text, "unix_socket = {}", quoted(&path.to_string_lossy()));
            }
        }
        let _ = writeln!(text, "backend = {}", quoted(&plan.stores[listener.store].name));
        let _ = writeln!(text, "max_connections = {}", listener.max_connections);
        let written = settings.listeners.iter().flatten().find(|l| l.origin == listener.place);
        let open = match written {
            Some(l) => l.open || l.address.is_none() || l.origin.starts_with("--"),
            None => settings.bind.is_some(),
        };
        let _ = writeln!(text, "open = {open}");
        for (name, value) in [
            ("idle_timeout", listener.idle_timeout),
            ("request_timeout", listener.request_timeout),
            ("write_timeout", listener.write_timeout),
        ] {
            let _ = writeln!(text, "{name} = {}", value.write().unwrap_or_default());
        }
        for key in LISTENER_KEYS.iter().filter(|key| key.path.starts_with("tls.")) {
            if let Some(written) = written
                && listener.tls.is_some()
                && let Some(value) = (key.show)(written)
            {
                let _ = writeln!(text, "{} = {value}", key.path);
            }
        }
        if let Some(written) = &settings.listeners
            && let Some(users) =
                written.iter().find(|l| l.origin == listener.place).map(|l| &l.users)
            && !users.is_empty()
        {
            text.push_str("[listener.users]\n");
            for (user, hash) in users {
                let _ = writeln!(text, "{} = {}", key_text(user), quoted(hash));
            }
        }
        text.push_str("[listener.settings]\n");
        let set = serde_json::from_str(&listener.settings).unwrap_or_default();
        let plugin = loader.load(&listener.protocol).ok();
        own(&mut text, plugin.as_ref(), &set);
    }
    text
}

/// A plugin's own settings: set ones as they are, the others with their default.
fn own(text: &mut String, plugin: Option<&Loaded>, set: &serde_json::Map<String, Value>) {
    let known = plugin.map(|p| own_settings(&instances::schema(p))).unwrap_or_default();
    for setting in &known {
        comment(text, &setting.help);
        let name = key_text(&setting.name);
        match (set.get(&setting.name).and_then(toml_of), &setting.default) {
            (Some(value), _) => {
                let _ = writeln!(text, "{name} = {value}");
            }
            (None, _) if setting.name == "heap_size" => {
                let _ = writeln!(text, "{name} = {}", usual_heap_bytes());
            }
            (None, Some(default)) => {
                let _ = writeln!(text, "{name} = {default}");
            }
            (None, None) => {
                let _ = writeln!(text, "# {name} is not set");
            }
        }
    }
    for (name, value) in set.iter().filter(|(name, _)| known.iter().all(|k| k.name != **name)) {
        if let Some(value) = toml_of(value) {
            let _ = writeln!(text, "{} = {value}", key_text(name));
        }
    }
}

/// docs/configuration.md.
#[must_use]
pub fn reference(settings: &Settings) -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         <!-- Written by `crucible-host reference`; a test compares it with the code. -->\n\n\
         Settings come from the defaults, then the file of `--config`, then the environment, then\n\
         the command line; each key on its own, the last one wins. `crucible-host --print-config`\n\
         prints what is in effect, as a file with comments. An unknown key, a value that does not\n\
         fit, or keys that contradict each other are refused at start, with exit code 2.\n\n\
         Every key can be set on the command line with `--set SECTION.KEY=VALUE` and in the\n\
         environment with the variable given in the table. Sizes are written as `\"64MiB\"` or as a\n\
         number of bytes, durations as `\"30s\"`, `\"500ms\"`, `\"2h\"`. Keys marked **R** take effect\n\
         with a reload (SIGHUP, or `POST /reload` of the admin server), the others with a restart.\n",
    );
    for (section, about) in SECTIONS {
        let _ = writeln!(text, "\n## `[{section}]`\n\n{about}\n");
        text.push_str("| key | value | default | what it does |\n| --- | --- | --- | --- |\n");
        let defaults = Settings::default();
        for key in KEYS.iter().filter(|key| key.parts().0 == *section) {
            row(&mut text, key, key.parts().1, &defaults, Some(key.variable()));
        }
    }
    text.push_str(
        "\n## `[[listener]]`\n\n\
         Where a protocol is served; one table for each. Without any, resp is served on\n\
         127.0.0.1:6379 and memcache on 127.0.0.1:11211. `--plugin NAME@ADDRESS` on the command\n\
         line replaces them all.\n\n\
         | key | value | default | what it does |\n| --- | --- | --- | --- |\n",
    );
    for key in LISTENER_KEYS.iter() {
        row(&mut text, key, key.path, &super::Listener::default(), None);
    }
    text.push_str(
        "\n`tls.*` keys stand in a table `[listener.tls]`, or as `tls = { cert = .., key = .. }`.\n\
         `[listener.users]` holds `name = \"sha256$..\"` lines as `crucible-host hash-password`\n\
         prints them; with at least one, a client must authenticate as its protocol does it.\n\
         `[listener.settings]` holds the protocol's own keys, below.\n\n\
         ## `[cache]` and `[backend.NAME]`\n\n\
         A store. `[cache]` is the one that listeners use unless they name another; its plugin is\n\
         `cache.backend` (default `\"segcache\"`). Further stores are `[backend.NAME]` tables with a\n\
         key `plugin`. All other keys are the plugin's own. Variables: `CRUCIBLE_CACHE_KEY`. When\n\
         nobody sets `heap_size`, the host gives a quarter of the memory it may use, at most 1 GiB.\n",
    );
    let mut loader = Loader::new(&settings.plugins);
    for (name, table) in [
        ("segcache", "cache"),
        ("slab", "cache"),
        ("heap", "cache"),
        ("resp", "listener.settings"),
        ("memcache", "listener.settings"),
        ("momento", "listener.settings"),
        ("ping", "listener.settings"),
    ] {
        let Ok(plugin) = loader.load(name) else { continue };
        let known = own_settings(&instances::schema(&plugin));
        let _ = writeln!(text, "\n### `[{table}]` of {name}\n");
        if known.is_empty() {
            text.push_str("No settings.\n");
            continue;
        }
        text.push_str("| key | default | what it does |\n| --- | --- | --- |\n");
        for own in known {
            let default = own.default.map_or("not set".into(), |d| format!("`{d}`"));
            let _ = writeln!(text, "| `{}` | {default} | {} |", own.name, cell(&own.help));
        }
    }
    text
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn row<S>(text: &mut String, key: &Key<S>, name: &str, defaults: &S, variable: Option<String>) {
    let default = match (key.show)(defaults) {
        Some(value) if key.unset.is_empty() => format!("`{value}`"),
        _ => key.unset.to_owned(),
    };
    let reload = if key.reloads { " **R**" } else { "" };
    let variable = variable.map(|name| format!(" `{name}`")).unwrap_or_default();
    let _ = writeln!(
        text,
        "| `{name}`{reload} | {} | {} | {}{variable} |",
        cell((key.shape)()),
        cell(&default),
        cell(key.help),
    );
}
