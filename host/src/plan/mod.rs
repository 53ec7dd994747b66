//! The checked plan: what everything else reads.
//!
//! What must always be true: whatever could be found wrong without a plugin is
//! found wrong here, in a sentence with the key; nothing later looks at the raw
//! settings. Called by `start` and by a reload.

mod event_loop;
mod listeners;

use std::path::PathBuf;

use crate::config::value::{Address, Given, quoted};
use crate::config::{CACHE, Settings, Store};
use crate::services::process;
use crate::tls::TlsError;

use event_loop::event_loop;
pub use listeners::{ListenerPlan, TlsPlan, USUAL_ALPN, USUAL_PORTS, plugin_name};
use listeners::{address_of, is_port_0, listener_plan, protected, tls_plan, usual_listeners};

/// Least and most memory that a store gets when nobody says.
pub const HEAP_BYTES_DEFAULT_MAX: u64 = 1 << 30;

/// Why settings make no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// A key's value, or two keys together.
    #[error("{origin}: {key} = {value}: {reason}")]
    Key {
        /// Where it was written.
        origin: String,
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What is wrong, and the cure.
        reason: String,
    },
    /// Certificates and what belongs to them.
    #[error("{origin}: tls: {source}")]
    Tls {
        /// Where it was written.
        origin: String,
        /// What is wrong.
        source: TlsError,
    },
    /// A range that the event loop refuses.
    #[error("the configuration: {0}")]
    Loop(#[from] kompio::Error),
}

fn bad(origin: &str, key: &str, value: impl Into<String>, reason: impl Into<String>) -> PlanError {
    PlanError::Key {
        origin: origin.to_owned(),
        key: key.to_owned(),
        value: value.into(),
        reason: reason.into(),
    }
}

/// One store.
#[derive(Clone, Debug)]
pub struct StorePlan {
    /// Its name.
    pub name: String,
    /// Name or file of its plugin.
    pub plugin: String,
    /// The plugin's settings.
    pub settings: serde_json::Map<String, serde_json::Value>,
    /// For error messages.
    pub place: String,
}
/// Everything, checked.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The event loop's.
    pub kompio: kompio::Config,
    /// Stores that are used.
    pub stores: Vec<StorePlan>,
    /// Listeners.
    pub listeners: Vec<ListenerPlan>,
    /// What was written, for printing and for the parts that are plain values.
    pub settings: Settings,
    /// The admin server's address.
    pub admin: Option<Address>,
    /// The admin server's secret.
    pub admin_token: Option<String>,
    /// How the admin server is encrypted.
    pub admin_tls: Option<TlsPlan>,
}

impl Plan {
    /// Whether a store keeps its items over a restart.
    #[must_use]
    pub fn persists(&self) -> bool {
        self.stores.iter().any(|store| store.settings.contains_key("persist"))
    }

    /// Checks settings.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn new(settings: Settings) -> Result<Self, PlanError> {
        let kompio = event_loop(&settings)?;
        let written = settings.listeners.clone();
        let optional = written.is_none();
        let wanted = written.unwrap_or_else(usual_listeners);
        if wanted.is_empty() {
            return Err(bad(
                "the configuration",
                "listener",
                "[]",
                "nothing to serve: add a [[listener]]",
            ));
        }
        let mut stores: Vec<StorePlan> = Vec::new();
        let mut listeners = Vec::new();
        let without_address =
            wanted.iter().filter(|l| l.address.is_none() && l.unix_socket.is_none()).count();
        for listener in &wanted {
            let name = listener.backend.as_deref().unwrap_or(CACHE);
            let store = match stores.iter().position(|s| s.name == name) {
                Some(at) => at,
                None => {
                    stores.push(store_plan(&settings, name, &listener.origin)?);
                    stores.len() - 1
                }
            };
            let address = address_of(listener, settings.bind.as_deref(), without_address)?;
            let same = |other: &ListenerPlan| other.address == address && !is_port_0(&address);
            if let Some(other) = listeners.iter().find(|l| same(l)) {
                let reason = format!("{} has the same address", other.place);
                return Err(bad(&listener.origin, "address", quoted(&address.to_string()), reason));
            }
            let plan = listener_plan(listener, &settings.limits, address, store, optional)?;
            protected(listener, &plan)?;
            listeners.push(plan);
        }
        for name in settings.stores.keys().filter(|name| *name != CACHE) {
            if !stores.iter().any(|s| s.name == **name) {
                let store = &settings.stores[name];
                let reason =
                    "no listener uses it; give one backend = \"NAME\", or remove the table";
                return Err(bad(&store.origin, &format!("backend.{name}"), "{..}", reason));
            }
        }
        let (admin, admin_token) = admin(&settings)?;
        let admin_tls = tls_plan(&settings.admin.tls, "admin", "the configuration: admin")?;
        Ok(Self { kompio, stores, listeners, admin, admin_token, admin_tls, settings })
    }
}
fn store_plan(settings: &Settings, name: &str, origin: &str) -> Result<StorePlan, PlanError> {
    let Some(Store { plugin, settings: own, origin: place }) = settings.stores.get(name) else {
        let known: Vec<_> = settings.stores.keys().map(String::as_str).collect();
        let reason = format!("no [backend.{name}] table; known: {}", known.join(", "));
        return Err(bad(origin, "backend", quoted(name), reason));
    };
    let key =
        if name == CACHE { "cache.backend".to_owned() } else { format!("backend.{name}.plugin") };
    if plugin.is_empty() {
        return Err(bad(place, &key, "(not set)", "name the store's plugin, as in \"segcache\""));
    }
    let table = if name == CACHE { "[cache]".to_owned() } else { format!("[backend.{name}]") };
    Ok(StorePlan {
        name: name.to_owned(),
        plugin: plugin.clone(),
        settings: json(own),
        place: format!("{place}: {table}"),
    })
}

fn json(
    given: &std::collections::BTreeMap<String, Given>,
) -> serde_json::Map<String, serde_json::Value> {
    given.iter().map(|(key, value)| (key.clone(), value.clone().into_json())).collect()
}
fn admin(settings: &Settings) -> Result<(Option<Address>, Option<String>), PlanError> {
    let token = match &settings.admin.token_file {
        None => None,
        Some(path) => Some(read_token(path)?),
    };
    if let Some(Address::Tcp(address)) = &settings.admin.address
        && !address.ip().is_loopback()
        && token.is_none()
    {
        let reason = "an admin server that others can reach needs admin.token_file";
        return Err(bad(
            "the configuration",
            "admin.address",
            quoted(&address.to_string()),
            reason,
        ));
    }
    Ok((settings.admin.address.clone(), token))
}

fn read_token(path: &PathBuf) -> Result<String, PlanError> {
    let wrong = |reason: String| {
        bad("the configuration", "admin.token_file", quoted(&path.to_string_lossy()), reason)
    };
    let text = std::fs::read_to_string(path).map_err(|e| wrong(format!("cannot read it: {e}")))?;
    let token = text.trim();
    if token.len() < 16 {
        return Err(wrong("the secret is shorter than 16 characters".into()));
    }
    Ok(token.to_owned())
}

/// Memory for a store when nobody says: a quarter of what there is.
#[must_use]
pub fn usual_heap_bytes() -> u64 {
    (process::memory_bytes() / 4).min(HEAP_BYTES_DEFAULT_MAX)
}

#[cfg(test)]
mod tests;
