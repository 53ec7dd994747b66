//! `crucible-host plugin ..`: what can be said of plugins.
//!
//! What must always be true: `list` runs no plugin code; `inspect` loads the one
//! plugin it is asked about; `check` runs the plugin in child processes. Called
//! by `run`.

use std::collections::BTreeMap;

use crucible_plugin_api::abi::tables::{ABI_MAJOR, ABI_MINOR};
use crucible_plugin_api::metadata::Kind;
use crucible_plugin_api::{Capabilities, OpCode};
use serde_json::json;

use crate::RunError;
use crate::cli::PluginCommand;
use crate::config::Settings;
use crate::config::describe::own_settings;
use crate::instances;
use crate::loader::{Loader, elf, judge};
use crate::{plugin_check, plugin_new};

/// Does what was asked; the exit code.
///
/// # Errors
/// When the plugin is not found or not fit.
pub fn run(command: &PluginCommand, settings: &Settings) -> Result<u8, RunError> {
    let mut loader = Loader::new(&settings.plugins);
    match command {
        PluginCommand::List { json } => list(&loader, settings, *json),
        PluginCommand::Inspect { plugin, json } => inspect(&mut loader, plugin, *json)?,
        PluginCommand::Check(args) => return plugin_check::run(args, settings),
        PluginCommand::New { kind, name, dir, api } => {
            let dir = dir.clone().unwrap_or_else(|| name.into());
            for path in plugin_new::write(*kind, name, &dir, api.as_deref())? {
                println!("{}", path.display());
            }
        }
    }
    Ok(0)
}

/// Every plugin file in the folders, in the order in which they are found.
fn list(loader: &Loader, settings: &Settings, as_json: bool) {
    let mut rows = Vec::new();
    let mut first: BTreeMap<String, String> = BTreeMap::new();
    for dir in loader.dirs() {
        let Ok(entries) = std::fs::read_dir(dir) else { continue };
        let mut paths: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
        paths.retain(|p| p.extension().is_some_and(|e| e == "so"));
        paths.sort();
        for path in paths {
            let Ok(record) = elf::read(&path) else { continue };
            let fit = judge(&path, &record, settings.plugins.allow_abort);
            let m = &record.metadata;
            let shown = path.display().to_string();
            let hidden_by = first.get(&m.name).cloned();
            first.entry(m.name.clone()).or_insert_with(|| shown.clone());
            let note = match (&fit, &hidden_by) {
                (Err(error), _) => error.to_string(),
                (Ok(()), Some(other)) => format!("hidden by {other}"),
                (Ok(()), None) => String::new(),
            };
            rows.push((m.clone(), shown, fit.is_ok() && hidden_by.is_none(), note));
        }
    }
    if as_json {
        let all: Vec<_> = rows
            .iter()
            .map(|(m, path, usable, note)| {
                json!({"name": m.name, "kind": m.kind.to_string(), "version": m.version,
                    "abi": format!("{}.{}", m.abi.0, m.abi.1), "path": path,
                    "usable": usable, "note": note})
            })
            .collect();
        println!("{}", serde_json::Value::Array(all));
        return;
    }
    if rows.is_empty() {
        let dirs: Vec<_> = loader.dirs().iter().map(|d| d.display().to_string()).collect();
        println!("no plugins in {}", dirs.join(", "));
    }
    for (m, path, _, note) in rows {
        let note = if note.is_empty() { note } else { format!("  ({note})") };
        println!("{:<12} {:<9} {:<8} {path}{note}", m.name, m.kind.to_string(), m.version);
    }
}

fn inspect(loader: &mut Loader, name: &str, as_json: bool) -> Result<(), RunError> {
    let loaded = loader.load(name)?;
    let m = &loaded.metadata;
    let schema = instances::schema(&loaded);
    let commands = match m.kind {
        Kind::Protocol => {
            instances::protocol_table(&loaded, name).map(instances::commands).unwrap_or_default()
        }
        Kind::Backend => Vec::new(),
    };
    let needs = |caps: u64, op: OpCode| {
        let mut words: Vec<String> =
            Capabilities::names(caps).iter().map(|w| (*w).to_owned()).collect();
        if op != OpCode::NOP {
            words.push(format!("operation {}", op.0));
        }
        words
    };
    if as_json {
        let commands: Vec<_> = commands
            .iter()
            .map(|c| json!({"name": c.name.as_str(), "needs": needs(c.needs_caps, c.needs_op)}))
            .collect();
        let all = json!({
            "name": m.name, "kind": m.kind.to_string(), "version": m.version,
            "origin": loaded.origin.to_string(),
            "abi": format!("{}.{}", m.abi.0, m.abi.1), "sdk": m.sdk,
            "min_host_abi": format!("{}.{}", m.abi.0, m.min_host_minor),
            "host_abi": format!("{ABI_MAJOR}.{ABI_MINOR}"),
            "panic": if m.unwinds { "unwind" } else { "abort" },
            "commands": commands, "settings": schema,
        });
        println!("{all:#}");
        return Ok(());
    }
    println!("{} {} ({})", m.name, m.version, m.kind);
    println!("  from      {}", loaded.origin);
    println!("  abi       {}.{}, made with crucible-plugin-api {}", m.abi.0, m.abi.1, m.sdk);
    println!(
        "  needs     a host of plugin ABI {}.{} (this one: {ABI_MAJOR}.{ABI_MINOR})",
        m.abi.0, m.min_host_minor
    );
    println!("  panics    {}", if m.unwinds { "are caught" } else { "end the process" });
    let own = own_settings(&schema);
    println!("  settings  {}", if own.is_empty() { "none" } else { "" });
    for setting in own {
        let default = setting.default.unwrap_or_else(|| "not set".into());
        println!("    {:<24} {default:<14} {}", setting.name, setting.help);
    }
    if m.kind == Kind::Protocol {
        println!("  commands  {}", commands.len());
        for c in &commands {
            println!("    {:<24} {}", c.name, needs(c.needs_caps, c.needs_op).join(" "));
        }
    }
    Ok(())
}
