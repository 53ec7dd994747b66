//! The `[workload]` and `[keyspace]` sections: which commands and lengths the protocol and the key space allow.
//!
//! Always true: every command of the mix can be asked of the target, and every key differs. Called by the plan.

use super::super::choices::Protocol;
use super::error::{PlanError, impossible};
use super::{Endpoint, KEY_LEN_BYTES_MAX, MEMCACHE_KEY_LEN_BYTES_MAX};
use crate::workload::mix::{Mix, Verb};
use crate::workload::spread::Spread;

/// Nothing may be left to a trace that is not there.
pub(super) fn check_without_trace(spreads: &[(&str, Option<&Spread>)]) -> Result<(), PlanError> {
    for (key, spread) in spreads {
        if *spread == Some(&Spread::Trace) {
            return Err(PlanError::Missing {
                key: format!("{key} = trace"),
                missing: "trace.path",
                why: "there is no trace to take it from",
            });
        }
    }
    Ok(())
}

/// Lengths or times by a distribution.
pub(super) fn parse_spread(
    key: &'static str,
    text: &str,
    unit: fn(&str) -> Result<u64, String>,
) -> Result<Spread, PlanError> {
    Spread::parse(text, unit).map_err(|why| impossible(key, text, why))
}

/// Keys must differ and fit the protocol.
pub(super) fn check_key_length(
    spread: &Spread,
    count: u64,
    protocol: Protocol,
    traced: bool,
    written: Option<&str>,
) -> Result<(), PlanError> {
    let limit = if protocol.is_memcache() { MEMCACHE_KEY_LEN_BYTES_MAX } else { KEY_LEN_BYTES_MAX };
    let Some((low, high)) = spread.bounds() else { return Ok(()) };
    if high > limit {
        return Err(impossible(
            "keyspace.length",
            written.unwrap_or("16"),
            format!("{high} bytes are above {protocol}'s limit of {limit}"),
        ));
    }
    let needed = key_len_bytes_min(if traced { u64::from(u32::MAX) } else { count });
    if low < needed {
        let why = format!(
            "keys of {low} bytes cannot all differ: {count} keys need {needed} (one letter and the number)"
        );
        return Err(impossible("keyspace.length", written.unwrap_or("16"), why));
    }
    Ok(())
}

/// The shortest key that can tell `count` keys apart: a letter and the decimal id.
#[must_use]
pub fn key_len_bytes_min(count: u64) -> u64 {
    1 + u64::from(count.saturating_sub(1).checked_ilog10().unwrap_or(0)) + 1
}

/// Every command must be the protocol's and possible there.
pub(super) fn check_mix(
    mix: &Mix,
    protocol: Protocol,
    endpoints: &[Endpoint],
    cluster: bool,
    ttl: bool,
) -> Result<(), PlanError> {
    for verb in mix.verbs() {
        let name = mix.name(verb).to_owned();
        let refuse = |why: String| Err(impossible("workload.commands", &name, why));
        match verb {
            _ if protocol == Protocol::Ping && verb != Verb::Ping => {
                return refuse("the ping protocol has only ping".into());
            }
            _ if protocol.is_momento() && !matches!(verb, Verb::Get | Verb::Set | Verb::Delete) => {
                return refuse(
                    "momento has get, set and delete: its protosocket and these gRPC calls".into(),
                );
            }
            Verb::Ping if protocol.is_memcache() => {
                return refuse(format!("{protocol} has no ping"));
            }
            Verb::Cas if protocol.is_resp() => {
                return refuse(format!("{protocol} has no check-and-set by token"));
            }
            Verb::Template(_) if !protocol.is_resp() => {
                return refuse(format!("a template is a RESP command, not for {protocol}"));
            }
            Verb::MGet if endpoints.len() > 1 || cluster => {
                return refuse("the keys of one mget would lie on several servers".into());
            }
            Verb::Touch if !ttl => {
                return Err(PlanError::Missing {
                    key: "touch in workload.commands".into(),
                    missing: "workload.ttl",
                    why: "it sets a time to live",
                });
            }
            _ => {}
        }
    }
    Ok(())
}
