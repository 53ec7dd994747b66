//! The checked plan: what everything else reads.
//!
//! What must always be true: whatever could be found wrong without a plugin is
//! found wrong here, in a sentence with the key; nothing later looks at the raw
//! settings. Called by `start` and by a reload.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::config::value::{Accept, Address, ClientAuth, Given, Setting, Size, ZeroCopy, quoted};
use crate::config::{CACHE, Limits, Listener, Settings, Store, Tls};
use crate::services::process;
use crate::services::users::Users;
use crate::tls::{self, Serving, TlsError};

/// Ports that protocols usually have.
pub const USUAL_PORTS: &[(&str, u16)] =
    &[("resp", 6379), ("memcache", 11211), ("ping", 7379), ("momento", 9090)];

/// Protocols that TLS clients of a plugin ask for by ALPN, unless `tls.alpn` says.
pub const USUAL_ALPN: &[(&str, &[&str])] = &[("momento", &["h2"])];

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

/// One listener.
#[derive(Clone, Debug)]
pub struct ListenerPlan {
    /// Name or file of the protocol's plugin.
    pub protocol: String,
    /// Where.
    pub address: Address,
    /// Index of the store.
    pub store: usize,
    /// Most connections.
    pub max_connections: usize,
    /// See [`Limits`].
    pub idle_timeout: Duration,
    /// See [`Limits`].
    pub request_timeout: Duration,
    /// See [`Limits`].
    pub write_timeout: Duration,
    /// Who may enter.
    pub users: Users,
    /// How it is encrypted.
    pub tls: Option<TlsPlan>,
    /// The protocol's settings, as JSON.
    pub settings: String,
    /// For error messages.
    pub place: String,
    /// Nobody asked for it: left out when its plugin is missing.
    pub optional: bool,
}

/// TLS of a listener.
#[derive(Clone, Debug)]
pub struct TlsPlan {
    /// Certificate, key, authorities and the rest, ready to use.
    pub serving: Serving,
    /// Longest handshake.
    pub handshake_timeout: Duration,
    /// Most handshakes under way.
    pub handshakes_max: usize,
    /// Clients need a certificate; `None` when they are not asked for one.
    pub client_auth: Option<ClientAuth>,
}

impl TlsPlan {
    /// Who may come, for the log.
    #[must_use]
    pub fn clients(&self) -> &'static str {
        match self.client_auth {
            None => "any client",
            Some(ClientAuth::Optional) => "client certificates optional",
            Some(ClientAuth::Required) => "client certificates required",
        }
    }
}

fn tls_plan(tls: &Tls, protocol: &str, origin: &str) -> Result<Option<TlsPlan>, PlanError> {
    let name = plugin_name(protocol);
    let alpn =
        USUAL_ALPN.iter().find(|(known, _)| *known == name).map_or(&[][..], |(_, alpn)| alpn);
    let refused = |source| PlanError::Tls { origin: origin.to_owned(), source };
    let Some(serving) = tls::serving(tls, alpn).map_err(refused)? else { return Ok(None) };
    if tls.handshake_timeout.is_zero() {
        return Err(bad(
            origin,
            "tls.handshake_timeout",
            "\"0\"",
            "a handshake must end: more than 0",
        ));
    }
    Ok(Some(TlsPlan {
        serving,
        handshake_timeout: tls.handshake_timeout,
        handshakes_max: tls.handshakes_max,
        client_auth: tls.client_ca.is_some().then_some(tls.client_auth),
    }))
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

fn is_port_0(address: &Address) -> bool {
    matches!(address, Address::Tcp(tcp) if tcp.port() == 0)
}

/// What is served when nobody says.
fn usual_listeners() -> Vec<Listener> {
    let usual = |name: &str| Listener {
        protocol: name.to_owned(),
        origin: "the defaults".into(),
        ..Listener::default()
    };
    vec![usual("resp"), usual("memcache")]
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

fn listener_plan(
    listener: &Listener,
    limits: &Limits,
    address: Address,
    store: usize,
    optional: bool,
) -> Result<ListenerPlan, PlanError> {
    let users = Users::read(&listener.users).map_err(|(user, reason)| {
        bad(&listener.origin, &format!("users.{user}"), "(not shown)", reason)
    })?;
    let tls = tls_plan(&listener.tls, &listener.protocol, &listener.origin)?;
    Ok(ListenerPlan {
        tls,
        protocol: listener.protocol.clone(),
        address,
        store,
        max_connections: listener.max_connections.unwrap_or(limits.max_connections),
        idle_timeout: listener.idle_timeout.unwrap_or(limits.idle_timeout),
        request_timeout: listener.request_timeout.unwrap_or(limits.request_timeout),
        write_timeout: listener.write_timeout.unwrap_or(limits.write_timeout),
        users,
        settings: serde_json::Value::Object(json(&listener.settings)).to_string(),
        place: listener.origin.clone(),
        optional,
    })
}

/// Refuses an address of the file that others can reach and anybody may use,
/// unless that is said. An address on the command line says it.
fn protected(listener: &Listener, plan: &ListenerPlan) -> Result<(), PlanError> {
    let reachable = match (&listener.address, &plan.address) {
        (Some(_), Address::Tcp(tcp)) => !tcp.ip().is_loopback(),
        _ => false,
    };
    let certificates = plan.tls.as_ref().and_then(|tls| tls.client_auth);
    let guarded = !plan.users.is_empty() || certificates == Some(ClientAuth::Required);
    if !reachable || guarded || listener.open || listener.origin.starts_with("--") {
        return Ok(());
    }
    let reason =
        "others can reach it and anybody may enter: add users or tls.client_ca, or say open = true";
    Err(bad(&listener.origin, "address", quoted(&plan.address.to_string()), reason))
}

fn address_of(
    listener: &Listener,
    bind: Option<&str>,
    without_address: usize,
) -> Result<Address, PlanError> {
    let place = &listener.origin;
    match (&listener.address, &listener.unix_socket) {
        (Some(address), None) => return Ok(address.clone()),
        (None, Some(path)) => return Ok(Address::Unix(path.clone())),
        (Some(address), Some(_)) => {
            let value = quoted(&address.to_string());
            return Err(bad(place, "address", value, "unix_socket is set too; keep one of them"));
        }
        (None, None) => {}
    }
    let name = plugin_name(&listener.protocol);
    let usual = USUAL_PORTS.iter().find(|(known, _)| *known == name).map(|(_, port)| *port);
    let bind_error = |reason: &str| bad("--bind", "address", quoted(bind.unwrap_or("")), reason);
    let (host, port) = match bind {
        None => (IpAddr::from([127, 0, 0, 1]), None),
        Some(text) => {
            match (text.parse::<SocketAddr>(), text.trim_matches(['[', ']']).parse::<IpAddr>()) {
                (Ok(whole), _) if without_address > 1 => {
                    let reason = format!(
                        "{without_address} listeners have no address, and one port ({}) cannot serve them; give the host alone",
                        whole.port()
                    );
                    return Err(bind_error(&reason));
                }
                (Ok(whole), _) => (whole.ip(), Some(whole.port())),
                (_, Ok(host)) => (host, None),
                _ => return Err(bind_error("expected a host such as 0.0.0.0, or host and port")),
            }
        }
    };
    match port.or(usual) {
        Some(port) => Ok(Address::Tcp(SocketAddr::new(host, port))),
        None => Err(bad(
            place,
            "address",
            "(not set)",
            format!(
                "{name} has no usual port; say where to listen, as in --plugin {name}@127.0.0.1:7000"
            ),
        )),
    }
}

/// `libresp.so`, `/x/libresp.so` and `resp` are all resp.
#[must_use]
pub fn plugin_name(text: &str) -> String {
    let file = text.rsplit('/').next().unwrap_or(text);
    let stem = file.strip_suffix(".so").unwrap_or(file);
    if stem.len() < file.len() { stem.strip_prefix("lib").unwrap_or(stem) } else { stem }.to_owned()
}

fn event_loop(settings: &Settings) -> Result<kompio::Config, PlanError> {
    let mut config = kompio::Config::default();
    let (limits, uring) = (&settings.limits, &settings.uring);
    let cpus = settings.workers.cpu_affinity.clone();
    config.workers = match (settings.workers.threads, &cpus) {
        (Some(threads), _) => threads,
        (None, Some(cpus)) => cpus.len(),
        (None, None) => process::cpus(),
    };
    if !(1..=kompio::limits::WORKERS_MAX).contains(&config.workers) {
        let reason = format!("expected 1 to {}", kompio::limits::WORKERS_MAX);
        return Err(bad(
            "the configuration",
            "workers.threads",
            config.workers.to_string(),
            reason,
        ));
    }
    if let Some(list) = &cpus
        && list.len() != config.workers
    {
        let reason = format!(
            "{} CPUs for {} threads; list one CPU for each thread",
            list.len(),
            config.workers
        );
        return Err(bad(
            "the configuration",
            "workers.cpu_affinity",
            quoted(&list.to_string()),
            reason,
        ));
    }
    config.cpus = cpus;
    config.name = "worker".into();
    if limits.max_connections == 0 {
        return Err(bad("the configuration", "limits.max_connections", "0", "expected at least 1"));
    }
    config.max_connections = limits.max_connections;
    config.accept = match uring.accept {
        Accept::RoundRobin => kompio::AcceptMode::RoundRobin,
        Accept::ReusePort => kompio::AcceptMode::ReusePort,
    };
    config.backlog = uring.backlog;
    config.keepalive = uring.keepalive.filter(|d| !d.is_zero());
    config.sq_entries = uring.sq_entries;
    config.cq_entries = uring.cq_entries;
    config.recv_ring_bytes = bytes(uring.recv_buffers);
    config.incremental_buffers = uring.incremental_buffers;
    config.direct_descriptors = uring.direct_descriptors;
    config.zero_copy = match uring.zero_copy {
        ZeroCopy::Off => kompio::ZeroCopy::Off,
        ZeroCopy::Probe => kompio::ZeroCopy::Probe,
    };
    config.zero_copy_part_bytes_min = bytes(uring.zero_copy_min);
    config.min_wait_us = micros(uring.min_wait);
    config.busy_poll_us = micros(uring.busy_poll);
    config.sqpoll_idle_ms = uring.sqpoll_idle.map(|d| micros(d) / 1000);
    let order = [
        ("limits.output_resume", limits.output_resume, limits.output_pause, "output_pause"),
        ("limits.output_pause", limits.output_pause, limits.output_max, "output_max"),
    ];
    for (key, low, high, above) in order {
        if low >= high {
            let value = low.write().unwrap_or_default();
            return Err(bad("the configuration", key, value, format!("must be below {above}")));
        }
    }
    config.input_limit_bytes = bytes(limits.input_max);
    config.output_high_water_bytes = bytes(limits.output_pause);
    config.output_low_water_bytes = bytes(limits.output_resume);
    config.output_hard_limit_bytes = bytes(limits.output_max);
    config.check()?;
    Ok(config)
}

fn bytes(size: Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
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
mod tests {
    use super::*;
    use crate::config::{Sources, load};

    fn plan(
        plugins: &[&str],
        options: &[(&str, &str)],
        bind: Option<&str>,
    ) -> Result<Plan, String> {
        let options = options.iter().map(|(k, v)| ((*k).into(), (*v).into(), "--set".into()));
        let sources = Sources {
            plugins: plugins.iter().map(|p| (*p).into()).collect(),
            options: options.collect(),
            bind: bind.map(Into::into),
            ..Sources::default()
        };
        Plan::new(load(&sources).map_err(|e| e.to_string())?).map_err(|e| e.to_string())
    }

    #[test]
    fn without_arguments_two_protocols_share_one_store_on_loopback() {
        let plan = plan(&[], &[], None).unwrap();
        let addresses: Vec<_> = plan.listeners.iter().map(|l| l.address.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.1:6379", "127.0.0.1:11211"]);
        assert_eq!((plan.stores.len(), plan.stores[0].plugin.as_str()), (1, "segcache"));
        assert_eq!(plan.kompio.workers, process::cpus());
    }

    #[test]
    fn bind_gives_listeners_without_address_their_host() {
        let of = |plugins: &[&str], bind| {
            plan(plugins, &[], Some(bind))
                .map(|p| p.listeners.iter().map(|l| l.address.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(of(&[], "0.0.0.0").unwrap(), ["0.0.0.0:6379", "0.0.0.0:11211"]);
        assert_eq!(
            of(&["resp", "ping@127.0.0.1:1"], "::1").unwrap(),
            ["[::1]:6379", "127.0.0.1:1"]
        );
        assert_eq!(of(&["./libresp.so"], "0.0.0.0:7000").unwrap(), ["0.0.0.0:7000"]);
        assert!(of(&[], "0.0.0.0:7000").unwrap_err().contains("2 listeners have no address"));
        assert!(of(&[], "nowhere").unwrap_err().starts_with("--bind: address = "));
    }

    #[test]
    fn a_listed_cpu_is_a_thread() {
        let made = plan(&[], &[("workers.cpu_affinity", "0,2,4-7:2")], None).unwrap();
        assert_eq!(made.kompio.workers, 4);
        let error = plan(&[], &[("workers.cpu_affinity", "0-2"), ("workers.threads", "2")], None)
            .unwrap_err();
        assert!(error.contains("3 CPUs for 2 threads"), "{error}");
    }

    #[test]
    fn contradictions_are_refused_in_a_sentence() {
        type Row<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);
        let table: &[Row<'_>] = &[
            (&["foo"], &[], "--plugin foo: address = (not set): foo has no usual port"),
            (
                &["resp@1.2.3.4:5", "ping@1.2.3.4:5"],
                &[],
                "--plugin ping@1.2.3.4:5: address = \"1.2.3.4:5\": --plugin resp@1.2.3.4:5 has the same address",
            ),
            (
                &[],
                &[("workers.threads", "0")],
                "the configuration: workers.threads = 0: expected 1 to 256",
            ),
            (
                &[],
                &[("limits.output_pause", "2GiB")],
                "the configuration: limits.output_pause = \"2GiB\": must be below output_max",
            ),
            (
                &[],
                &[("admin.address", "0.0.0.0:1")],
                "the configuration: admin.address = \"0.0.0.0:1\": an admin server that others",
            ),
            (
                &[],
                &[("backend.big.plugin", "heap")],
                "--set: backend.big = {..}: no listener uses it",
            ),
            (
                &[],
                &[("uring.sq_entries", "100")],
                "the configuration: `sq_entries` = 100 is out of range",
            ),
        ];
        for (plugins, options, sentence) in table {
            let error = plan(plugins, options, None).expect_err(sentence);
            assert!(error.starts_with(sentence), "gave     {error}\nexpected {sentence}");
        }
    }

    #[test]
    fn the_name_of_a_plugin_is_in_its_file() {
        for text in ["resp", "libresp.so", "/a/libresp.so", "./libresp.so"] {
            assert_eq!(plugin_name(text), "resp");
        }
        assert_eq!(plugin_name("library"), "library");
    }

    /// What stands in the plan besides the settings as written.
    fn derived(plan: &Plan) -> String {
        let Plan { kompio, stores, listeners, admin, admin_token, admin_tls, settings } = plan;
        let read_as_they_are = (
            (&settings.plugins, &settings.takeover, &settings.shutdown, &settings.logging),
            (
                settings.limits.by_reference_min,
                settings.limits.max_connections_per_address,
                settings.limits.connection_memory,
                &admin_tls,
            ),
        );
        format!(
            "{kompio:?} {stores:?} {listeners:?} {admin:?} {admin_token:?} {read_as_they_are:?}"
        )
    }

    /// A value of each key that is not its default, with what it needs beside it.
    fn other_value(path: &str, dir: &std::path::Path) -> (String, Vec<(String, String)>) {
        let file = |name: &str| dir.join(name).to_string_lossy().into_owned();
        let cert = |prefix: &str| {
            vec![
                (format!("{prefix}tls.cert"), file("a.pem")),
                (format!("{prefix}tls.key"), file("a.key")),
            ]
        };
        let prefix = path.split("tls.").next().unwrap_or_default();
        match path {
            "workers.threads" => ("3".into(), vec![]),
            "workers.cpu_affinity" => ("0,1,2".into(), vec![]),
            "plugins.dirs" | "plugins.layout_report" | "takeover.socket" => ("/x".into(), vec![]),
            "uring.accept" => ("reuse-port".into(), vec![]),
            "uring.min_wait" => ("7ms".into(), vec![]),
            "uring.zero_copy" => ("off".into(), vec![]),
            "uring.sq_entries" => ("512".into(), vec![]),
            "uring.cq_entries" => ("16384".into(), vec![]),
            "uring.recv_buffers" => ("1MiB".into(), vec![]),
            "uring.incremental_buffers" | "uring.direct_descriptors" => ("false".into(), vec![]),
            "plugins.allow_abort" | "open" => ("true".into(), vec![]),
            "limits.output_pause" => ("2MiB".into(), vec![]),
            "limits.output_resume" => ("128KiB".into(), vec![]),
            "limits.output_max" | "limits.input_max" => ("3GiB".into(), vec![]),
            "limits.by_reference_min" | "limits.connection_memory" | "uring.zero_copy_min" => {
                ("128KiB".into(), vec![])
            }
            "limits.max_connections" | "limits.max_connections_per_address" => {
                ("77".into(), vec![])
            }
            "uring.backlog" | "max_connections" => ("77".into(), vec![]),
            "logging.level" => ("trace".into(), vec![]),
            "logging.format" => ("json".into(), vec![]),
            "logging.output" => ("stdout".into(), vec![]),
            "admin.address" | "address" => ("127.0.0.1:7777".into(), vec![]),
            "admin.token_file" => (file("token"), vec![]),
            "protocol" => ("memcache".into(), vec![]),
            "unix_socket" => ("/x.sock".into(), vec![]),
            "backend" => ("big".into(), vec![]),
            _ if path.ends_with("tls.cert") => (file("a.pem"), cert(prefix)),
            _ if path.ends_with("tls.key") => (file("a.key"), cert(prefix)),
            _ if path.ends_with("tls.client_ca") => (file("a.pem"), cert(prefix)),
            _ if path.ends_with("tls.client_auth") => {
                let mut with = cert(prefix);
                with.push((format!("{prefix}tls.client_ca"), file("a.pem")));
                ("optional".into(), with)
            }
            _ if path.ends_with("tls.min_version") => ("1.3".into(), cert(prefix)),
            _ if path.ends_with("tls.ciphers") => ("TLS_AES_128_GCM_SHA256".into(), cert(prefix)),
            _ if path.ends_with("tls.alpn") => ("x".into(), cert(prefix)),
            _ if path.ends_with("tls.handshakes_max") => ("7".into(), cert(prefix)),
            _ if path.ends_with("handshake_timeout") => ("7s".into(), cert(prefix)),
            // Durations: anything else than the defaults.
            _ => ("77ms".into(), vec![]),
        }
    }

    #[test]
    fn every_key_has_an_effect_and_refuses_what_it_cannot_be() {
        use crate::config::keys::{KEYS, LISTENER_KEYS};

        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(dir.path().join("a.pem"), made.cert.pem()).unwrap();
        std::fs::write(dir.path().join("a.key"), made.signing_key.serialize_pem()).unwrap();
        std::fs::write(dir.path().join("token"), "0123456789abcdef").unwrap();
        let planned = |table: String| {
            let path = dir.path().join("c.toml");
            std::fs::write(&path, table).unwrap();
            let sources = Sources { file: Some(path), ..Sources::default() };
            load(&sources)
                .map_err(|e| e.to_string())
                .and_then(|settings| Plan::new(settings).map_err(|e| e.to_string()))
        };
        // A file with these keys of sections, or of its one listener.
        let file = |keys: &[(String, String)], listener: bool| {
            let line = |(key, value): &(String, String)| match value.as_str() {
                "true" | "false" => format!("{key} = {value}\n"),
                text => format!("{key} = {text:?}\n"),
            };
            let own: String = keys.iter().map(line).collect();
            let (top, own) = if listener { (String::new(), own) } else { (own, String::new()) };
            let protocol = if own.contains("protocol =") { "" } else { "protocol = \"resp\"\n" };
            let big =
                if own.contains("\"big\"") { "[backend.big]\nplugin = \"heap\"\n" } else { "" };
            format!("{top}{big}[[listener]]\n{protocol}{own}")
        };
        let paths = KEYS.iter().map(|key| (key.path, false));
        for (path, listener) in paths.chain(LISTENER_KEYS.iter().map(|key| (key.path, true))) {
            let (value, mut with) = other_value(path, dir.path());
            with.retain(|(key, _)| key != path);
            let alone = planned(file(&with, listener));
            let without = match &alone {
                Ok(plan) => derived(plan),
                // The half of a pair is refused: that is what it does.
                Err(reason) => reason.clone(),
            };
            let mut keys = with.clone();
            keys.push((path.to_owned(), value.clone()));
            let plan = planned(file(&keys, listener)).unwrap_or_else(|e| panic!("{path}: {e}"));
            // Threads and CPUs go together; `open` shows in what is accepted.
            if path != "open" {
                assert_ne!(derived(&plan), without, "{path} = {value} changes nothing");
            }
            // What it cannot be: a table is no value of any key.
            let keys = with.clone();
            let mut text = file(&keys, listener);
            if path == "protocol" {
                text = text.replace("protocol = \"resp\"\n", "");
            }
            let spoilt = if listener {
                format!("{text}{path} = {{ no = 1 }}\n")
            } else {
                format!("{path} = {{ no = 1 }}\n{text}")
            };
            let reason = planned(spoilt).expect_err(path);
            assert!(reason.contains(path), "{path}: {reason}");
        }
    }
}
