//! Made plugins: stores and protocols that serve.
//!
//! What must always be true: an instance is made once, on the main thread, and
//! destroyed after every worker's state of it is gone; a protocol belongs to
//! one store. Called by `start`; read by the workers.
//!
//! # Safety
//! Tables and instances come from a plugin that the loader found good. An
//! instance may be used from any thread, as the tables' contract says.
#![allow(unsafe_code)]

use core::ffi::c_void;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use crucible_plugin_api::abi::tables::{BackendVt_Ref, Command, ProtocolVt_Ref};
use crucible_plugin_api::channels::Bus;
use crucible_plugin_api::re::abi_stable;
use crucible_plugin_api::{Capabilities, OpCode, Status};

use abi_stable::std_types::{ROption, RStr, RString};

use crate::loader::Loaded;
use crate::services::{Core, host_api};

/// Who takes longer to be made is named in the log, again whenever that time has doubled: until
/// then nobody is served.
const SLOW_START: Duration = Duration::from_secs(1);

/// A plugin refused to be made.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// Its settings, or what it needs.
    #[error("{place}: {plugin}: {reason}")]
    Refused {
        /// Which part of the configuration.
        place: String,
        /// The plugin's name.
        plugin: String,
        /// What it says.
        reason: String,
    },
    /// It offers no table of the wanted kind.
    #[error("{place}: plugin {plugin} offers no {wanted}")]
    NoTable {
        /// Which part of the configuration.
        place: String,
        /// The plugin's name.
        plugin: String,
        /// Protocol or backend.
        wanted: &'static str,
    },
}

/// A store.
pub struct StoreInstance {
    /// Its name in the configuration.
    pub name: String,
    /// The plugin.
    pub plugin: Loaded,
    /// Its table.
    pub vt: BackendVt_Ref,
    /// The instance.
    pub ctx: *mut c_void,
    /// What it can do.
    pub caps: Capabilities,
    /// Messages between the protocols over it. Leaked with the tables that lead to it.
    pub bus: &'static Bus,
}

// SAFETY: see the module.
unsafe impl Send for StoreInstance {}
// SAFETY: see the module.
unsafe impl Sync for StoreInstance {}

impl std::fmt::Debug for StoreInstance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreInstance").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A protocol over a store.
pub struct ProtocolInstance {
    /// The plugin.
    pub plugin: Loaded,
    /// Its table.
    pub vt: ProtocolVt_Ref,
    /// The instance.
    pub ctx: *mut c_void,
    /// Index of its store.
    pub store: usize,
    /// Kinds of key events it asked for last.
    pub kinds: AtomicU32,
    /// Its commands.
    pub commands: Vec<Command>,
    /// Name or file, as written.
    pub written: String,
    /// Its settings.
    pub settings: String,
    /// Which part of the configuration wants it.
    pub place: String,
    /// Open sessions.
    pub sessions: AtomicU64,
}

// SAFETY: see the module.
unsafe impl Send for ProtocolInstance {}
// SAFETY: see the module.
unsafe impl Sync for ProtocolInstance {}

impl std::fmt::Debug for ProtocolInstance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProtocolInstance")
            .field("plugin", &self.plugin.metadata.name)
            .finish_non_exhaustive()
    }
}

fn refused(place: &str, plugin: &Loaded, reason: impl Into<String>) -> InstanceError {
    InstanceError::Refused {
        place: place.to_owned(),
        plugin: plugin.metadata.name.clone(),
        reason: reason.into().replace('\n', " "),
    }
}

/// The table of a store's plugin.
///
/// # Errors
/// When it has none.
pub fn store_table(plugin: &Loaded, place: &str) -> Result<BackendVt_Ref, InstanceError> {
    plugin.root.backend().into_option().ok_or_else(|| InstanceError::NoTable {
        place: place.to_owned(),
        plugin: plugin.metadata.name.clone(),
        wanted: "backend",
    })
}

/// The table of a protocol's plugin.
///
/// # Errors
/// When it has none.
pub fn protocol_table(plugin: &Loaded, place: &str) -> Result<ProtocolVt_Ref, InstanceError> {
    plugin.root.protocol().into_option().ok_or_else(|| InstanceError::NoTable {
        place: place.to_owned(),
        plugin: plugin.metadata.name.clone(),
        wanted: "protocol",
    })
}

/// Asks a store's plugin about settings.
///
/// # Errors
/// Its own sentence.
pub fn check_store(plugin: &Loaded, json: &str, place: &str) -> Result<(), InstanceError> {
    let vt = store_table(plugin, place)?;
    // SAFETY: any thread; the text outlives the call.
    match unsafe { vt.validate()(RStr::from(json)) } {
        ROption::RNone => Ok(()),
        ROption::RSome(reason) => Err(refused(place, plugin, reason)),
    }
}

/// JSON schema of a plugin's settings.
#[must_use]
pub fn schema(plugin: &Loaded) -> serde_json::Value {
    // SAFETY: any thread.
    let text = unsafe { plugin.root.settings_schema()() };
    serde_json::from_str(&text).unwrap_or_default()
}

/// A protocol's commands.
#[must_use]
pub fn commands(vt: ProtocolVt_Ref) -> Vec<Command> {
    // SAFETY: any thread.
    unsafe { vt.commands()() }.into_vec()
}

impl StoreInstance {
    /// Makes a store.
    ///
    /// # Errors
    /// The plugin's own sentence.
    pub fn make(
        core: &Arc<Core>,
        name: &str,
        plugin: Loaded,
        json: &str,
        place: &str,
    ) -> Result<Self, InstanceError> {
        check_store(&plugin, json, place)?;
        let vt = store_table(&plugin, place)?;
        let bus: &'static Bus = Box::leak(Box::default());
        let host = host_api::table(core, &plugin.metadata.name, bus);
        let (mut ctx, mut error) = (std::ptr::null_mut(), RString::new());
        // SAFETY: the main thread; both out-pointers are locals.
        let make = || unsafe { vt.create()(host, RStr::from(json), &raw mut ctx, &raw mut error) };
        let status = timed(&plugin, make);
        if status != Status::OK || ctx.is_null() {
            return Err(refused(place, &plugin, why(status, error)));
        }
        // SAFETY: any thread; the instance was made a line above.
        let caps = unsafe { vt.caps()(ctx) };
        if caps.opcodes == [0; 4] {
            let reason = "serves no operation; a panic, if there was one, is in the log";
            return Err(refused(place, &plugin, reason));
        }
        Ok(Self { name: name.to_owned(), plugin, vt, ctx, caps, bus })
    }

    /// Changes its memory.
    pub fn set_memory_limit(&self, bytes: u64) -> Status {
        // SAFETY: any thread; the instance lives.
        unsafe { self.vt.set_memory_limit()(self.ctx.cast_const(), bytes) }
    }

    /// Gives the store back to its plugin.
    pub fn destroy(&self) {
        // SAFETY: the main thread, once, after every worker's fini.
        unsafe { self.vt.destroy()(self.ctx) }
    }
}

/// Makes an instance of a plugin; one that takes long is named meanwhile, and when it is made.
fn timed(plugin: &Loaded, make: impl FnOnce() -> Status) -> Status {
    let name = plugin.metadata.name.as_str();
    let begun = Instant::now();
    let (made, is_made) = mpsc::channel::<()>();
    let status = std::thread::scope(|scope| {
        let watch = move || {
            let mut patience = SLOW_START;
            while is_made.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                let waited_ms = begun.elapsed().as_millis() as u64;
                tracing::warn!(plugin = name, waited_ms, "a plugin has not started yet");
                patience *= 2;
            }
        };
        // Without a thread nobody says so meanwhile; the plugin starts all the same.
        let _ = std::thread::Builder::new().name("start".into()).spawn_scoped(scope, watch);
        let status = make();
        drop(made);
        status
    });
    let took = begun.elapsed();
    if took >= SLOW_START {
        tracing::warn!(
            plugin = name,
            took_ms = took.as_millis() as u64,
            "a plugin was slow to start"
        );
    }
    status
}

fn why(status: Status, error: RString) -> String {
    if error.is_empty() { format!("it answered {}", status.name()) } else { error.into() }
}

impl ProtocolInstance {
    /// Makes a protocol over a store.
    ///
    /// # Errors
    /// The plugin's own sentence; for a missing capability it names the store.
    pub fn make(
        core: &Arc<Core>,
        plugin: Loaded,
        json: &str,
        store: (usize, &StoreInstance),
        place: &str,
    ) -> Result<Self, InstanceError> {
        let vt = protocol_table(&plugin, place)?;
        // SAFETY: any thread; text and capabilities outlive the call.
        let checked = unsafe { vt.validate()(RStr::from(json), &raw const store.1.caps) };
        if let ROption::RSome(reason) = checked {
            let reason = if reason.starts_with("needs a backend") {
                format!("{reason}, which {} does not offer", store.1.plugin.metadata.name)
            } else {
                reason.into()
            };
            return Err(refused(place, &plugin, reason));
        }
        let host = host_api::table(core, &plugin.metadata.name, store.1.bus);
        let (mut ctx, mut error) = (std::ptr::null_mut(), RString::new());
        // SAFETY: the main thread; both out-pointers are locals.
        let make = || unsafe { vt.create()(host, RStr::from(json), &raw mut ctx, &raw mut error) };
        let status = timed(&plugin, make);
        if status != Status::OK || ctx.is_null() {
            return Err(refused(place, &plugin, why(status, error)));
        }
        Ok(Self {
            commands: commands(vt),
            plugin,
            vt,
            ctx,
            store: store.0,
            kinds: AtomicU32::new(0),
            written: String::new(),
            settings: json.to_owned(),
            place: place.to_owned(),
            sessions: AtomicU64::new(0),
        })
    }

    /// Gives the protocol back to its plugin.
    pub fn destroy(&self) {
        // SAFETY: the main thread, once, after every worker's fini.
        unsafe { self.vt.destroy()(self.ctx) }
    }

    /// Names of the commands that the store cannot serve, each with what is
    /// missing.
    #[must_use]
    pub fn unserved(&self, caps: &Capabilities) -> Vec<(String, String)> {
        self.commands
            .iter()
            .filter_map(|command| {
                let missing = command.needs_caps & !caps.bits;
                if missing != 0 {
                    let names = Capabilities::names(missing).join("+").to_ascii_uppercase();
                    return Some((command.name.to_string(), names));
                }
                let op = command.needs_op;
                (op != OpCode::NOP && !caps.serves(op))
                    .then(|| (command.name.to_string(), format!("operation {}", op.0)))
            })
            .collect()
    }
}
