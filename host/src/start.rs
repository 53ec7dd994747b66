//! From a plan to a running server, and to its end.
//!
//! ```text
//!  load plugins -> check settings -> make stores -> make protocols
//!       -> open listeners, start workers -> ready
//!       -> (signal, admin, plugin, panic) drain -> join -> destroy -> exit code
//! ```
//! What must always be true: the server is up as a whole or not at all; the
//! exit code is 0 only when nothing was cut off, 1 when something was, 2 when
//! it could not start.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::Instant;

use crucible_plugin_api::metadata::Kind;
use kompio::{KompioBuilder, Server};

use crate::admin::Admin;
use crate::config::Sources;
use crate::config::value::Address;
use crate::instances::{self, InstanceError, ProtocolInstance, StoreInstance};
use crate::loader::{LoadError, Loaded, Loader};
use crate::log;
use crate::plan::{Plan, usual_heap_bytes};
use crate::services::counters::Counters;
use crate::services::{
    Core, ListenerShare, Timeouts, TlsShare, WorkerShare, by_reference_ms, lock, unix_ms,
};
use crate::signals::{self, Signal};
use crate::swap::{self, Swaps};
use crate::takeover::{self, Inherited};
use crate::worker::{Crew, Serving, Worker};

/// Threads beside the workers that have slots of their own: the admin server.
pub const SERVICE_THREADS: usize = 1;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A plugin.
    #[error("{0}")]
    Load(#[from] LoadError),
    /// A plugin's settings.
    #[error("{0}")]
    Instance(#[from] InstanceError),
    /// The event loop.
    #[error("{}", loop_sentence(.0))]
    Loop(#[from] kompio::Error),
    /// A plugin panicked while workers were made.
    #[error("{0}")]
    Worker(String),
    /// The admin server.
    #[error("the admin server: {0}")]
    Admin(String),
}

fn loop_sentence(error: &kompio::Error) -> String {
    match error {
        kompio::Error::Listen { address, source }
            if source.raw_os_error() == Some(libc::EADDRINUSE) =>
        {
            format!(
                "{address} is in use: stop the process that listens there, or choose another address"
            )
        }
        other => other.to_string(),
    }
}

/// A server that was made and not started.
#[derive(Debug)]
pub struct Made {
    /// What it was made from.
    pub plan: Plan,
    /// What its workers are made from.
    pub crew: Arc<Crew>,
    /// Its plugins.
    pub loader: Loader,
}

/// Loads and makes everything that a plan names; opens no listener.
///
/// # Errors
/// The first sentence of refusal.
pub fn make(mut plan: Plan) -> Result<Made, StartError> {
    let mut loader = Loader::new(&plan.settings.plugins);
    leave_out_missing(&mut plan, &mut loader)?;
    let core = core(&plan);
    let mut stores = Vec::new();
    for store in &plan.stores {
        let plugin = loader.load_kind(&store.plugin, Kind::Backend, &store.place)?;
        let json = store_settings(&plugin, store.settings.clone());
        let made = StoreInstance::make(&core, &store.name, plugin, &json, &store.place)?;
        stores.push(Arc::new(made));
    }
    let mut protocols: Vec<Arc<ProtocolInstance>> = Vec::new();
    let mut keys: Vec<(String, String, usize)> = Vec::new();
    let mut by_listener = Vec::new();
    for listener in &plan.listeners {
        let plugin = loader.load_kind(&listener.protocol, Kind::Protocol, &listener.place)?;
        let key = (
            plugin.origin.to_string() + &plugin.metadata.name,
            listener.settings.clone(),
            listener.store,
        );
        let at = match keys.iter().position(|known| *known == key) {
            Some(at) => at,
            None => {
                let store = (listener.store, &*stores[listener.store]);
                let json = &listener.settings;
                let mut made = ProtocolInstance::make(&core, plugin, json, store, &listener.place)?;
                made.written.clone_from(&listener.protocol);
                protocols.push(Arc::new(made));
                keys.push(key);
                keys.len() - 1
            }
        };
        by_listener.push(at);
    }
    let limits = &plan.settings.limits;
    let crew = Crew {
        core,
        stores,
        serving: RwLock::new(Serving { protocols, by_listener }),
        swaps: Mutex::new(Swaps::new(&plan.settings.plugins)),
        most_connections: plan.listeners.iter().map(|l| l.max_connections).collect(),
        by_reference_min: u32::try_from(limits.by_reference_min.0).unwrap_or(u32::MAX),
        output_pause_bytes: plan.kompio.output_high_water_bytes,
        output_max_bytes: plan.kompio.output_hard_limit_bytes,
        input_max_bytes: plan.kompio.input_limit_bytes,
    };
    Ok(Made { plan, crew: Arc::new(crew), loader })
}

/// Drops listeners that nobody asked for when their plugin is not installed.
fn leave_out_missing(plan: &mut Plan, loader: &mut Loader) -> Result<(), StartError> {
    let (mut kept, mut missing) = (Vec::new(), None);
    for listener in std::mem::take(&mut plan.listeners) {
        match loader.load(&listener.protocol) {
            Err(error @ LoadError::NotFound { .. }) if listener.optional => {
                missing.get_or_insert(error);
            }
            _ => kept.push(listener),
        }
    }
    plan.listeners = kept;
    match missing {
        Some(error) if plan.listeners.is_empty() => Err(error.into()),
        _ => Ok(()),
    }
}

/// A store's settings as JSON, with the host's share of memory when the plugin
/// knows such a key and nobody set it.
fn store_settings(
    plugin: &Loaded,
    mut settings: serde_json::Map<String, serde_json::Value>,
) -> String {
    const HEAP: &str = "heap_size";
    let schema = instances::schema(plugin);
    if schema["properties"].get(HEAP).is_some() && !settings.contains_key(HEAP) {
        settings.insert(HEAP.into(), usual_heap_bytes().into());
    }
    serde_json::Value::Object(settings).to_string()
}

fn core(plan: &Plan) -> Arc<Core> {
    let workers = plan.kompio.workers;
    let threads = workers + SERVICE_THREADS;
    let listeners = plan.listeners.iter().map(|listener| ListenerShare {
        name: listener.address.to_string(),
        protocol: crate::plan::plugin_name(&listener.protocol),
        connections: AtomicUsize::new(0),
        accepted: AtomicU64::new(0),
        users: RwLock::new(Arc::new(listener.users.clone())),
        tls: listener.tls.as_ref().map(TlsShare::new),
    });
    let timeouts = plan.listeners.iter().map(|listener| {
        let timeouts = Timeouts::default();
        timeouts.set(listener.idle_timeout, listener.request_timeout, listener.write_timeout);
        timeouts
    });
    let per_address = plan.settings.limits.max_connections_per_address;
    Arc::new(Core {
        workers,
        connections_max: plan.kompio.max_connections,
        log_level: AtomicU8::new(log::number(plan.settings.logging.level)),
        counters: Counters::new(threads),
        shares: (0..threads).map(|_| WorkerShare::default()).collect(),
        listeners: listeners.collect(),
        admin_tls: plan.admin_tls.as_ref().map(TlsShare::new),
        timeouts: timeouts.collect(),
        addresses: Mutex::new(HashMap::new()),
        slow_after_us: AtomicU64::new(crate::log::slow_us(&plan.settings.logging)),
        connection_memory: AtomicU64::new(plan.settings.limits.connection_memory.0),
        by_reference_ms: AtomicU32::new(by_reference_ms(&plan.settings.limits)),
        max_per_address: AtomicU32::new(u32::try_from(per_address).unwrap_or(u32::MAX)),
        gates: plan.stores.iter().map(|_| crate::gate::Gate::new(workers)).collect(),
        event_masks: plan.stores.iter().map(|_| AtomicU32::new(0)).collect(),
        offload: crate::services::offload::Offload::default(),
        observer: crate::observe::Observer::new(
            workers,
            plan.listeners.iter().map(|l| crate::plan::plugin_name(&l.protocol)),
        ),
        handle: OnceLock::new(),
        drain_timeout: plan.settings.shutdown.drain_timeout,
        serving: AtomicBool::new(false),
        draining: AtomicBool::new(false),
        leaving: AtomicBool::new(false),
        admin_socket: OnceLock::new(),
        poisoned: OnceLock::new(),
        start_failures: Mutex::default(),
        started: Instant::now(),
        started_ms: unix_ms(),
    })
}

impl Made {
    /// Says which commands of each protocol its store serves.
    pub fn tell_commands(&self) {
        for protocol in &self.crew.serving().protocols {
            let store = &self.crew.stores[protocol.store];
            let unserved = protocol.unserved(&store.caps);
            let served = protocol.commands.len() - unserved.len();
            let pair =
                format!("{} over {}", protocol.plugin.metadata.name, store.plugin.metadata.name);
            let of = format!("{pair}: {served} of {} commands", protocol.commands.len());
            if unserved.is_empty() {
                tracing::info!("{of}");
            } else {
                tracing::info!("{of}; unsupported: {}", by_reason(&unserved));
            }
        }
    }

    /// Opens the listeners and starts the workers.
    ///
    /// # Errors
    /// What could not be had; nothing runs then.
    pub fn launch(&self, inherited: &mut Inherited) -> Result<Server, StartError> {
        let mut builder = KompioBuilder::new(self.plan.kompio.clone());
        for listener in &self.plan.listeners {
            builder = match (inherited.listener(&listener.address), &listener.address) {
                (Some(sockets), _) => builder.listeners(sockets),
                (None, Address::Tcp(address)) => builder.bind(*address),
                (None, Address::Unix(path)) => builder.bind_unix(path),
            };
        }
        let crew = self.crew.clone();
        let server = builder.launch(move |info| Worker::new(crew.clone(), info))?;
        if let Some(failure) = lock(&self.crew.core.start_failures).first().cloned() {
            server.shutdown(kompio::Shutdown::Now);
            let _nothing_to_report = server.join();
            return Err(StartError::Worker(failure));
        }
        let _first = self.crew.core.handle.set(server.handle());
        if self.crew.core.draining.load(Ordering::Relaxed) {
            // A plugin asked for the end while it was made.
            self.crew.core.shut_down();
        }
        for (listener, address) in self.plan.listeners.iter().zip(server.addresses()) {
            let protocol = crate::plan::plugin_name(&listener.protocol);
            let store = &self.crew.stores[listener.store].name;
            match &listener.tls {
                None => tracing::info!(protocol, %address, store, "listening"),
                Some(tls) => {
                    let clients = tls.clients();
                    tracing::info!(protocol, %address, store, tls = clients, "listening");
                }
            }
        }
        Ok(server)
    }

    /// Gives every instance back to its plugin. After the workers ended.
    pub fn destroy(&self) {
        for protocol in &self.crew.serving().protocols {
            protocol.destroy();
        }
        for store in &self.crew.stores {
            store.destroy();
        }
    }

    /// Serves until the end; the exit code.
    ///
    /// # Errors
    /// When it could not start.
    pub fn serve(self, sources: &Sources, mut inherited: Inherited) -> Result<u8, StartError> {
        signals::block();
        crate::reload::remember(sources, &self.plan);
        let core = self.crew.core.clone();
        crate::stacks::install();
        self.tell_commands();
        let server = self.launch(&mut inherited)?;
        let admin_socket = inherited.admin();
        inherited.drop_rest();
        let admin = match self
            .plan
            .admin
            .as_ref()
            .map(|at| Admin::start(&self.plan, &self.crew, at, admin_socket))
        {
            Some(Err(reason)) => {
                server.shutdown(kompio::Shutdown::Now);
                let _nothing_was_served = server.join();
                return Err(StartError::Admin(reason));
            }
            Some(Ok(admin)) => Some(admin),
            None => None,
        };
        core.serving.store(true, Ordering::Relaxed);
        if let Some(mut predecessor) = inherited.predecessor.take() {
            predecessor.drain();
        }
        if let Err(error) = takeover::offer(&core, &self.plan) {
            tracing::error!(%error, "cannot open takeover.socket: the next process must bind anew");
        }
        if inherited.took_over {
            notify_manager(&format!("READY=1\nMAINPID={}", std::process::id()));
        } else {
            notify_manager("READY=1");
        }
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            workers = core.workers,
            cpus = ?self.plan.kompio.cpus.as_ref().map(ToString::to_string),
            after_ms = core.started.elapsed().as_millis() as u64,
            "ready"
        );
        listen_for_signals(&self.crew);
        crate::watchdog::start(&core, self.plan.settings.workers.stuck_after);
        let report = server.join();
        core.draining.store(true, Ordering::Relaxed);
        if let Some(admin) = admin {
            admin.stop();
        }
        let clean = report.drained && core.poisoned.get().is_none();
        if report.leaked == 0 && report.panicked.is_empty() {
            self.destroy();
        }
        if clean {
            tracing::info!("drained; good bye");
        } else {
            tracing::error!(
                cut = report.cut,
                leaked = report.leaked,
                panicked = report.panicked.len(),
                failed = report.errors.len(),
                "ended without draining"
            );
        }
        Ok(u8::from(!clean))
    }
}

/// Commands named of each reason at most; the rest is a number.
const NAMED_COMMANDS_MAX: usize = 4;

/// `HSET HGET .. and 12 more (backend lacks HASH); ..`
fn by_reason(unserved: &[(String, String)]) -> String {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for (command, reason) in unserved {
        match groups.iter_mut().find(|(known, _)| known == reason) {
            Some((_, commands)) => commands.push(command),
            None => groups.push((reason, vec![command])),
        }
    }
    let each = groups.into_iter().map(|(reason, commands)| {
        let named = commands.len().min(NAMED_COMMANDS_MAX);
        let more = match commands.len() - named {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        format!("{}{more} (backend lacks {reason})", commands[..named].join(" "))
    });
    each.collect::<Vec<_>>().join("; ")
}

fn listen_for_signals(crew: &Arc<Crew>) {
    let (crew, core) = (crew.clone(), crew.core.clone());
    let body = move || loop {
        match signals::wait() {
            Signal::Reload => {
                if crate::reload::from_signal(&crew) {
                    swap::from_signal(&crew);
                }
            }
            Signal::End if core.shut_down() => {
                notify_manager("STOPPING=1");
                tracing::info!("draining; a second signal ends at once");
            }
            Signal::End => {
                tracing::warn!("ended by a second signal");
                std::process::exit(1);
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("signals".into()).spawn(body) {
        tracing::error!(%error, "cannot start the signal thread");
    }
}

/// Tells systemd, when it asks to be told (`sd_notify`).
pub fn notify_manager(state: &str) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let Ok(path) = std::env::var("NOTIFY_SOCKET") else { return };
    let told = (|| {
        let socket = UnixDatagram::unbound()?;
        let address = match path.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        socket.send_to_addr(state.as_bytes(), &address)
    })();
    if let Err(error) = told {
        tracing::warn!(%error, path, "cannot tell the service manager");
    }
}
