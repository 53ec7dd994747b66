//! Listeners of the plan: address, protection, TLS, users.
//!
//! What must always be true: an address that others can reach is guarded, or asked for in so many
//! words. Called by `Plan::new`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{PlanError, bad, json};
use crate::config::value::{Address, ClientAuth, quoted};
use crate::config::{Limits, Listener, Tls};
use crate::services::users::Users;
use crate::tls::{self, Serving};

/// Ports that protocols usually have.
pub const USUAL_PORTS: &[(&str, u16)] =
    &[("resp", 6379), ("memcache", 11211), ("ping", 7379), ("momento", 9090)];

/// Protocols that TLS clients of a plugin ask for by ALPN, unless `tls.alpn` says.
pub const USUAL_ALPN: &[(&str, &[&str])] = &[("momento", &["h2"])];
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

pub(super) fn tls_plan(
    tls: &Tls,
    protocol: &str,
    origin: &str,
) -> Result<Option<TlsPlan>, PlanError> {
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
pub(super) fn is_port_0(address: &Address) -> bool {
    matches!(address, Address::Tcp(tcp) if tcp.port() == 0)
}

/// What is served when nobody says.
pub(super) fn usual_listeners() -> Vec<Listener> {
    let usual = |name: &str| Listener {
        protocol: name.to_owned(),
        origin: "the defaults".into(),
        ..Listener::default()
    };
    vec![usual("resp"), usual("memcache")]
}
pub(super) fn listener_plan(
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
pub(super) fn protected(listener: &Listener, plan: &ListenerPlan) -> Result<(), PlanError> {
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

pub(super) fn address_of(
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
