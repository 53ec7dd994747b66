//! Paths of the admin server.
//!
//! What must always be true: a path answers one thing; the list of paths is
//! what an unknown one answers. Called for each request.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::{State, history, inspect, metrics, page, reports};
use crate::config::value::{Level, Setting};
use crate::reload;
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
    let Some(header) = header else { return false };
    if let Some(given) = header.strip_prefix(b"Bearer ") {
        return same_bytes(given, token.as_bytes());
    }
    // What a browser asks its user for: any name, and the secret as the password.
    let Some(given) = header.strip_prefix(b"Basic ").and_then(base64) else { return false };
    let password = given.splitn(2, |byte| *byte == b':').nth(1);
    password.is_some_and(|given| same_bytes(given, token.as_bytes()))
}

/// The bytes that base64 text stands for (RFC 4648, section 4).
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let text = text.trim_ascii();
    let digits = text.strip_suffix(b"==").or(text.strip_suffix(b"=")).unwrap_or(text);
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::with_capacity(text.len()));
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        (bits, count) = (bits << 6 | u32::from(value), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

/// Answers one request.
pub(super) async fn answer(state: &State, request: Request<Incoming>) -> Answer {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let query = request.uri().query().unwrap_or_default().to_owned();
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
        let mut refusal = reply(StatusCode::UNAUTHORIZED, TEXT, "a token is needed\n");
        let ask = HeaderValue::from_static("Basic realm=\"crucible\", Bearer");
        refusal.headers_mut().insert(WWW_AUTHENTICATE, ask);
        return refusal;
    }
    match (&method, path.as_str()) {
        (&Method::GET, "/") => reply(StatusCode::OK, "text/html; charset=utf-8", page::PAGE),
        (&Method::GET, "/metrics") => {
            reply(StatusCode::OK, metrics::CONTENT_TYPE, metrics::render(state))
        }
        (&Method::GET, "/plugins") => json_reply(&reports::plugins(state)),
        (&Method::GET, "/config") => reply(StatusCode::OK, TEXT, reports::config(state)),
        (&Method::GET, "/stats") => json_reply(&reports::stats(state)),
        (&Method::GET, "/log-level") => {
            let level = core.log_level.load(std::sync::atomic::Ordering::Relaxed);
            reply(StatusCode::OK, TEXT, format!("{}\n", level_name(level)))
        }
        (&Method::PUT | &Method::POST, "/log-level") => {
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
        (&Method::GET, "/connections") => match inspect::number(&query, "limit", 1000) {
            Ok(most) => json_reply(&inspect::connections(state.crew.clone(), most).await),
            Err(reason) => reply(StatusCode::BAD_REQUEST, TEXT, reason),
        },
        (&Method::GET, "/hotkeys") => match inspect::hot_keys(state, &query) {
            Ok(keys) => json_reply(&keys),
            Err(reason) => reply(StatusCode::BAD_REQUEST, TEXT, reason),
        },
        (&Method::GET, "/history") => match inspect::number(&query, "since", 0) {
            Ok(after_ms) => json_reply(&history::since(state, after_ms)),
            Err(reason) => reply(StatusCode::BAD_REQUEST, TEXT, reason),
        },
        (&Method::GET, "/mrc") => json_reply(&inspect::miss_ratio_curves(state)),
        (&Method::GET, "/trace") => match inspect::trace(state, &query).await {
            Ok(Some(lines)) => reply(StatusCode::OK, "application/x-ndjson", lines),
            Ok(None) => reply(StatusCode::CONFLICT, TEXT, "a trace is under way\n"),
            Err(reason) => reply(StatusCode::BAD_REQUEST, TEXT, reason),
        },
        (&Method::GET, "/profile") => profile(state, &query).await,
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
        (_, path) if KNOWN.iter().any(|(_, known)| known.split('?').next() == Some(path)) => {
            reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, paths())
        }
        _ => reply(StatusCode::NOT_FOUND, TEXT, paths()),
    }
}

async fn profile(state: &State, query: &str) -> Answer {
    let seconds = match inspect::number(query, "seconds", 5) {
        Ok(seconds) => seconds,
        Err(reason) => return reply(StatusCode::BAD_REQUEST, TEXT, reason),
    };
    match inspect::profile(state.crew.clone(), seconds).await {
        None => reply(StatusCode::CONFLICT, TEXT, "a profile is under way\n"),
        Some(flame) if inspect::word(query, "format") == Some("folded") => {
            reply(StatusCode::OK, TEXT, flame.folded())
        }
        Some(flame) => {
            let title = format!("Crucible's workers: {} samples in {seconds} s", flame.count());
            reply(StatusCode::OK, "image/svg+xml", flame.svg(&title))
        }
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
    ("POST", "/log-level"),
    ("GET", "/connections?limit=1000"),
    ("GET", "/hotkeys?limit=20&keys=whole"),
    ("GET", "/mrc"),
    ("GET", "/history?since=0"),
    ("GET", "/trace?seconds=1&keys=whole"),
    ("GET", "/profile?seconds=5&format=folded"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_with_and_without_its_padding() {
        let table: &[(&str, Option<&[u8]>)] = &[
            ("", Some(b"")),
            ("Zg==", Some(b"f")),
            ("Zm8=", Some(b"fo")),
            ("Zm9v", Some(b"foo")),
            ("Zm8", Some(b"fo")),
            ("+/+/", Some(&[0xfb, 0xff, 0xbf])),
            ("Zm 8", None),
            ("Zm=8", None),
        ];
        for (text, bytes) in table {
            assert_eq!(base64(text.as_bytes()).as_deref(), *bytes, "{text:?}");
        }
    }
}
