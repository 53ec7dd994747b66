//! Paths of the admin server.
//!
//! What must always be true: a path answers one thing; the list of paths is
//! what an unknown one answers. Called for each request.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::{State, metrics, page};
use crate::config::describe;
use crate::config::value::{Level, Setting};
use crate::reload;
use crate::services::host_api;
use crate::services::users::same_bytes;
use crate::swap;

/// Bodies are a word; this is the limit.
const BODY_LEN_MAX: usize = 4096;

type Answer = Response<Full<Bytes>>;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

fn reply(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn json_reply(value: &Value) -> Answer {
    reply(StatusCode::OK, JSON, value.to_string())
}

fn allowed(state: &State, request: &Request<Incoming>) -> bool {
    let Some(token) = &state.plan.admin_token else { return true };
    let header = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
    header
        .and_then(|value| value.strip_prefix(b"Bearer "))
        .is_some_and(|given| same_bytes(given, token.as_bytes()))
}

/// Answers one request.
pub(super) async fn answer(state: &State, request: Request<Incoming>) -> Answer {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let core = &state.crew.core;
    let probe = match path.as_str() {
        "/health" => Some(reply(StatusCode::OK, TEXT, "ok\n")),
        "/ready" if core.is_ready() => Some(reply(StatusCode::OK, TEXT, "ready\n")),
        "/ready" => Some(reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, why_not_ready(state))),
        _ => None,
    };
    if let Some(probe) = probe {
        return probe;
    }
    if !allowed(state, &request) {
        return reply(StatusCode::UNAUTHORIZED, TEXT, "a token is needed\n");
    }
    match (&method, path.as_str()) {
        (&Method::GET, "/") => reply(StatusCode::OK, "text/html; charset=utf-8", page::PAGE),
        (&Method::GET, "/metrics") => {
            reply(StatusCode::OK, metrics::CONTENT_TYPE, metrics::render(state))
        }
        (&Method::GET, "/plugins") => json_reply(&plugins(state)),
        (&Method::GET, "/config") => reply(StatusCode::OK, TEXT, config(state)),
        (&Method::GET, "/stats") => json_reply(&stats(state)),
        (&Method::GET, "/log-level") => {
            let level = core.log_level.load(std::sync::atomic::Ordering::Relaxed);
            reply(StatusCode::OK, TEXT, format!("{}\n", level_name(level)))
        }
        (&Method::PUT, "/log-level") => {
            let body = Limited::new(request.into_body(), BODY_LEN_MAX).collect().await;
            let Ok(body) = body else {
                return reply(StatusCode::BAD_REQUEST, TEXT, "cannot read the body\n");
            };
            let bytes = body.to_bytes();
            match Level::read(String::from_utf8_lossy(&bytes).trim()) {
                Ok(level) => {
                    crate::log::set_level(level, &core.log_level);
                    reply(StatusCode::OK, TEXT, "ok\n")
                }
                Err(reason) => reply(StatusCode::BAD_REQUEST, TEXT, format!("{reason}\n")),
            }
        }
        (&Method::POST, "/reload") => match reload::now(&state.crew) {
            Ok(changed) => json_reply(&json!({ "changed": changed })),
            Err(reason) => reply(StatusCode::CONFLICT, TEXT, format!("{reason}\n")),
        },
        (&Method::POST, "/plugins/reload") => {
            let crew = state.crew.clone();
            // The workers answer; this thread serves others meanwhile.
            let done = tokio::task::spawn_blocking(move || swap::now(&crew)).await;
            match done {
                Ok(Ok(swapped)) => {
                    let each = swapped.iter().map(|s| {
                        json!({"plugin": s.plugin, "from": s.from, "to": s.to, "listeners": s.listeners})
                    });
                    json_reply(&json!({ "swapped": each.collect::<Vec<_>>() }))
                }
                Ok(Err(reason)) => reply(StatusCode::CONFLICT, TEXT, format!("{reason}\n")),
                Err(_) => reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the swap panicked\n"),
            }
        }
        (_, path) if KNOWN.iter().any(|(_, known)| *known == path) => {
            reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, paths())
        }
        _ => reply(StatusCode::NOT_FOUND, TEXT, paths()),
    }
}

const KNOWN: &[(&str, &str)] = &[
    ("GET", "/"),
    ("GET", "/health"),
    ("GET", "/ready"),
    ("GET", "/metrics"),
    ("GET", "/plugins"),
    ("GET", "/config"),
    ("GET", "/stats"),
    ("GET", "/log-level"),
    ("PUT", "/log-level"),
    ("POST", "/reload"),
    ("POST", "/plugins/reload"),
];

fn paths() -> String {
    KNOWN.iter().map(|(method, path)| format!("{method} {path}\n")).collect()
}

fn level_name(number: u8) -> &'static str {
    ["off", "error", "warn", "info", "debug", "trace"].get(usize::from(number)).unwrap_or(&"trace")
}

fn why_not_ready(state: &State) -> String {
    let core = &state.crew.core;
    if let Some(what) = core.poisoned.get() {
        format!("a backend panicked: {what}\n")
    } else if core.draining.load(std::sync::atomic::Ordering::Relaxed) {
        "draining\n".into()
    } else {
        "starting\n".into()
    }
}

fn plugins(state: &State) -> Value {
    let crew = &state.crew;
    let stores = crew.stores.iter().map(|store| {
        let m = &store.plugin.metadata;
        json!({
            "kind": "backend", "name": m.name, "version": m.version, "store": store.name,
            "abi": format!("{}.{}", m.abi.0, m.abi.1), "sdk": m.sdk,
            "origin": store.plugin.origin.to_string(),
            "capabilities": crucible_plugin_api::Capabilities::names(store.caps.bits),
            "key_len_max": store.caps.key_len_max, "value_len_max": store.caps.value_len_max,
        })
    });
    let serving = crew.serving();
    let protocols = serving.protocols.iter().enumerate().map(|(at, protocol)| {
        let m = &protocol.plugin.metadata;
        let store = &crew.stores[protocol.store];
        let unserved = protocol.unserved(&store.caps);
        let listeners: Vec<_> = serving
            .by_listener
            .iter()
            .zip(&crew.core.listeners)
            .filter(|(p, _)| **p == at)
            .map(|(_, listener)| listener.name.clone())
            .collect();
        json!({
            "kind": "protocol", "name": m.name, "version": m.version, "store": store.name,
            "abi": format!("{}.{}", m.abi.0, m.abi.1), "sdk": m.sdk,
            "origin": protocol.plugin.origin.to_string(), "listeners": listeners,
            "commands": protocol.commands.len(),
            "sessions": protocol.sessions.load(std::sync::atomic::Ordering::Relaxed),
            "unserved": unserved.iter().map(|(c, why)| json!({"command": c, "lacks": why})).collect::<Vec<_>>(),
        })
    });
    Value::Array(stores.chain(protocols).collect())
}

/// The effective configuration, without password hashes.
fn config(state: &State) -> String {
    let mut plan = state.plan.clone();
    for listener in plan.settings.listeners.iter_mut().flatten() {
        for hash in listener.users.values_mut() {
            "(not shown)".clone_into(hash);
        }
    }
    describe::effective(&plan)
}

fn stats(state: &State) -> Value {
    let core = &state.crew.core;
    let mut process = serde_json::Map::new();
    host_api::describe(core, &mut |name, value| {
        if name != "listener" {
            process.insert(name.to_owned(), number_or_text(value));
        }
    });
    let mut stores = serde_json::Map::new();
    for (store, side) in state.crew.stores.iter().zip(state.stores.borrow_mut().iter_mut()) {
        let mut numbers = serde_json::Map::new();
        side.stats("", &mut |name, value| {
            numbers.insert(name.to_owned(), number_or_text(value));
        });
        stores.insert(store.name.clone(), numbers.into());
    }
    let listeners: Vec<_> = core
        .listeners
        .iter()
        .map(|listener| {
            use std::sync::atomic::Ordering::Relaxed;
            json!({"protocol": listener.protocol, "address": listener.name,
                "connections": listener.connections.load(Relaxed),
                "accepted": listener.accepted.load(Relaxed)})
        })
        .collect();
    let counters: Vec<_> = core
        .counters
        .read()
        .into_iter()
        .map(|(c, value)| json!({"plugin": c.plugin, "name": c.name, "help": c.help, "value": value}))
        .collect();
    json!({
        "ready": core.is_ready(), "process": process, "listeners": listeners,
        "stores": stores, "counters": counters,
        "sessions": core.sum(|s| &s.sessions), "pinned_values": core.sum(|s| &s.pinned),
        "pinned_bytes": core.sum(|s| &s.pinned_bytes),
        "bodies": core.sum(|s| &s.bodies), "panics": core.sum(|s| &s.panics),
        "connection_bytes": core.sum(|s| &s.held_bytes),
        "memory_closes": core.sum(|s| &s.memory_closes),
        "tls_handshakes": core.sum(|s| &s.tls_handshakes),
        "tls_resumed": core.sum(|s| &s.tls_resumed),
        "tls_failures": core.sum(|s| &s.tls_failures),
        "turns": core.sum(|s| &s.turns), "crossings": core.sum(|s| &s.crossings),
    })
}

fn number_or_text(value: &str) -> Value {
    if let Ok(number) = value.parse::<u64>() {
        return number.into();
    }
    match value.parse::<f64>() {
        Ok(number) if number.is_finite() => number.into(),
        _ => value.into(),
    }
}
