//! The `[target]` section: where the servers are, who asks, and how connections are sealed.
//!
//! Always true: an endpoint has an address; a secret is accepted only where the protocol carries it. Called by
//! the plan.

use std::net::{SocketAddr, ToSocketAddrs};

use super::super::choices::{Endpoints, Protocol};
use super::super::written::{PathBufText, Target};
use super::error::{PlanError, impossible};
use super::{Endpoint, TlsPlan};

/// Checks names and secrets against the protocol.
pub(super) fn check(target: &Target, protocol: Protocol) -> Result<(), PlanError> {
    for (key, present) in
        [("target.cache", target.cache.is_some()), ("target.token", target.token.is_some())]
    {
        if present && !protocol.is_momento() {
            return Err(impossible(key, "…", format!("only momento has it, not {protocol}")));
        }
    }
    check_login(target, protocol)?;
    for (key, value) in [("target.cache", &target.cache), ("target.token", &target.token)] {
        let visible = |text: &String| text.bytes().all(|b| (0x20..0x7f).contains(&b));
        if protocol == Protocol::MomentoGrpc && !value.as_ref().is_none_or(visible) {
            return Err(impossible(key, "…", "gRPC carries it in a header: printable ASCII only"));
        }
    }
    Ok(())
}

fn check_login(target: &Target, protocol: Protocol) -> Result<(), PlanError> {
    let (name, password) = (target.username.is_some(), target.password.is_some());
    let has = protocol.is_resp() || protocol.is_memcache();
    for (key, present) in [("target.username", name), ("target.password", password)] {
        if present && !has {
            return Err(impossible(key, "…", format!("{protocol} has no login")));
        }
    }
    let missing = |key: &str, missing, why| PlanError::Missing { key: key.into(), missing, why };
    match (name, password) {
        (true, false) => {
            Err(missing("target.username", "target.password", "a name alone opens nothing"))
        }
        (false, true) if protocol.is_memcache() => {
            Err(missing("target.password", "target.username", "memcache has no nameless login"))
        }
        _ => Ok(()),
    }
}

/// How connections are sealed.
pub(super) fn tls(target: &Target) -> Result<Option<TlsPlan>, PlanError> {
    let path = |path: &Option<PathBufText>| path.as_ref().map(|p| p.0.clone());
    if target.tls != Some(true) {
        for (key, present) in [
            ("target.tls_ca", target.tls_ca.is_some()),
            ("target.tls_certificate", target.tls_certificate.is_some()),
            ("target.tls_key", target.tls_key.is_some()),
            ("target.tls_server_name", target.tls_server_name.is_some()),
            ("target.tls_insecure", target.tls_insecure == Some(true)),
        ] {
            if present {
                let why = "nothing is sealed without it";
                return Err(PlanError::Missing { key: key.into(), missing: "target.tls", why });
            }
        }
        return Ok(None);
    }
    if target.tls_certificate.is_some() != target.tls_key.is_some() {
        let (key, missing) = match target.tls_key {
            None => ("target.tls_certificate", "target.tls_key"),
            Some(_) => ("target.tls_key", "target.tls_certificate"),
        };
        return Err(PlanError::Missing { key: key.into(), missing, why: "one proves the other" });
    }
    if target.tls_insecure == Some(true) && target.tls_ca.is_some() {
        return Err(PlanError::Conflict {
            one: "target.tls_insecure",
            other: "target.tls_ca",
            why: "either any certificate will do or the authority's",
        });
    }
    Ok(Some(TlsPlan {
        ca: path(&target.tls_ca),
        certificate: path(&target.tls_certificate),
        key: path(&target.tls_key),
        server_name: target.tls_server_name.clone(),
        insecure: target.tls_insecure == Some(true),
    }))
}

/// Every endpoint with its address.
pub(super) fn resolve(written: Option<&Endpoints>) -> Result<Vec<Endpoint>, PlanError> {
    let default = Endpoints(vec!["127.0.0.1:6379".into()]);
    let list = &written.unwrap_or(&default).0;
    let resolved = list.iter().map(|name| {
        let addresses = name
            .to_socket_addrs()
            .map_err(|e| PlanError::Unresolved { endpoint: name.clone(), error: e.to_string() })?;
        // IPv4 first, as servers that listen on one family usually do.
        let address =
            addresses.min_by_key(SocketAddr::is_ipv6).ok_or_else(|| PlanError::Unresolved {
                endpoint: name.clone(),
                error: "the name has no address".into(),
            })?;
        Ok(Endpoint { name: name.clone(), address })
    });
    resolved.collect()
}
