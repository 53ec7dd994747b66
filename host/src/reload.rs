//! Changing what can change while serving: levels, limits, time-outs, users,
//! certificates, a store's memory.
//!
//! What must always be true: a reload takes effect as a whole or not at all;
//! what cannot change at run time is refused by name, with both values. Called
//! on SIGHUP and by `POST /reload`.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock};

use crucible_plugin_api::{Capabilities, Status};

use crate::config::keys::KEYS;
use crate::config::value::{Setting, Size};
use crate::config::{Settings, Sources, load};
use crate::log;
use crate::plan::{Plan, StorePlan, usual_heap_bytes};
use crate::services::{Core, by_reference_ms, lock};
use crate::worker::Crew;

/// The one key of a store that may change, where the store can.
const HEAP: &str = "heap_size";

/// What the process was started with, and runs with now.
#[derive(Debug)]
struct Running {
    sources: Sources,
    now: Mutex<Plan>,
}

static RUNNING: OnceLock<Running> = OnceLock::new();

/// Remembers where settings come from. Once, before serving.
pub fn remember(sources: &Sources, plan: &Plan) {
    let _first = RUNNING.set(Running { sources: sources.clone(), now: Mutex::new(plan.clone()) });
}

/// Reload on SIGHUP: the log says how it went. True when it was good.
pub fn from_signal(crew: &Crew) -> bool {
    match now(crew) {
        Ok(changed) if changed.is_empty() => tracing::info!("reloaded; nothing has changed"),
        Ok(changed) => tracing::info!(changed = changed.join(", "), "reloaded"),
        Err(reason) => {
            tracing::error!("not reloaded: {reason}");
            return false;
        }
    }
    true
}

/// Reads all settings again and lets the changes take effect; what changed.
///
/// # Errors
/// Why nothing was changed.
pub fn now(crew: &Crew) -> Result<Vec<String>, String> {
    let running = RUNNING.get().ok_or("the server is not started yet")?;
    let mut current = lock(&running.now);
    let settings = load(&running.sources).map_err(|e| e.to_string())?;
    let mut next = Plan::new(settings).map_err(|e| e.to_string())?;
    let changed = compare(&current, &mut next)?;
    resize(crew, &current, &next)?;
    apply(&crew.core, &next);
    *current = next;
    Ok(changed)
}

fn fixed(key: &str, old: &str, new: &str) -> String {
    format!("{key} cannot change while serving (from {old} to {new}); restart for it")
}

/// What differs, if all of it may.
fn compare(old: &Plan, new: &mut Plan) -> Result<Vec<String>, String> {
    let mut changed = Vec::new();
    for key in KEYS.iter() {
        let shown = |s: &Settings| (key.show)(s).unwrap_or_else(|| "not set".into());
        let (before, after) = (shown(&old.settings), shown(&new.settings));
        if before != after {
            if !key.reloads {
                return Err(fixed(key.path, &before, &after));
            }
            changed.push(key.path.to_owned());
        }
    }
    let stores = |plan: &Plan| {
        let of = plan.stores.iter().map(|s| {
            let mut settings = s.settings.clone();
            settings.remove(HEAP);
            (s.name.clone(), s.plugin.clone(), settings)
        });
        of.collect::<Vec<_>>()
    };
    if stores(old) != stores(new) {
        return Err(
            "of the stores ([cache], [backend.NAME]) only heap_size can change while serving; restart for it"
                .into(),
        );
    }
    for (o, n) in old.stores.iter().zip(&new.stores) {
        if o.settings.get(HEAP) != n.settings.get(HEAP) {
            changed.push(format!("{HEAP} of {}", n.name));
        }
    }
    // A usual listener whose plugin is not installed was left out at start.
    new.listeners.retain(|l| !l.optional || old.listeners.iter().any(|o| o.address == l.address));
    let same = old.listeners.len() == new.listeners.len()
        && old.listeners.iter().zip(&new.listeners).all(|(o, n)| {
            (&o.protocol, &o.address, o.store, o.max_connections, &o.settings)
                == (&n.protocol, &n.address, n.store, n.max_connections, &n.settings)
        });
    if !same {
        return Err("listeners keep protocol, address, store, max_connections and settings while serving; restart for it".into());
    }
    for (o, n) in old.listeners.iter().zip(&mut new.listeners) {
        let times =
            |l: &crate::plan::ListenerPlan| (l.idle_timeout, l.request_timeout, l.write_timeout);
        if times(o) != times(n) {
            changed.push(format!("time-outs of {}", n.address));
        }
        match (&o.tls, &mut n.tls) {
            (None, None) => {}
            (Some(before), Some(after)) => {
                if before.serving.digest != after.serving.digest {
                    changed.push(format!("TLS of {}", n.address));
                } else {
                    // Tickets that clients hold stay good.
                    after.serving = before.serving.clone();
                }
            }
            (before, _) => {
                let said = |tls: bool| if tls { "encrypted" } else { "in the clear" };
                let (before, after) = (said(before.is_some()), said(before.is_none()));
                return Err(fixed(&format!("TLS of {}", n.address), before, after));
            }
        }
        if o.users != n.users {
            changed.push(format!("users of {}", n.address));
        }
    }
    let digest = |plan: &Plan| plan.admin_tls.as_ref().map(|tls| tls.serving.digest);
    match (digest(old), digest(new)) {
        (Some(before), Some(after)) if before != after => {
            changed.push("TLS of the admin server".into());
        }
        (Some(_), None) => {
            return Err(fixed("TLS of the admin server", "encrypted", "in the clear"));
        }
        (None, Some(_)) => {
            return Err(fixed("TLS of the admin server", "in the clear", "encrypted"));
        }
        _ => {}
    }
    Ok(changed)
}

/// Gives the stores their new memory. All of them, or none.
fn resize(crew: &Crew, old: &Plan, new: &Plan) -> Result<(), String> {
    let mut wanted = Vec::new();
    for (at, (o, n)) in old.stores.iter().zip(&new.stores).enumerate() {
        if o.settings.get(HEAP) == n.settings.get(HEAP) {
            continue;
        }
        let bytes = |plan: &StorePlan| heap_bytes(plan.settings.get(HEAP));
        let (before, after) = (bytes(o)?, bytes(n)?);
        if crew.stores[at].caps.bits & Capabilities::MEM_RESIZE == 0 {
            return Err(format!(
                "{HEAP} of {} cannot change while serving (from {before} to {after} bytes): {} has memory of one size; restart for it",
                n.name, crew.stores[at].plugin.metadata.name
            ));
        }
        wanted.push((at, before, after));
    }
    for (done, &(at, _, after)) in wanted.iter().enumerate() {
        let status = crew.stores[at].set_memory_limit(after);
        if status != Status::OK {
            for &(at, before, _) in &wanted[..done] {
                crew.stores[at].set_memory_limit(before);
            }
            let name = &new.stores[at].name;
            return Err(format!(
                "{name} refuses {HEAP} = {after}: {}; the line before in the log says what is possible",
                status.name()
            ));
        }
    }
    Ok(())
}

/// A size as a store's settings may write it; the host's usual one when unset.
fn heap_bytes(value: Option<&serde_json::Value>) -> Result<u64, String> {
    let Some(value) = value else { return Ok(usual_heap_bytes()) };
    match (value.as_u64(), value.as_str()) {
        (Some(bytes), _) => Ok(bytes),
        (_, Some(text)) => Size::read(text).map(|size| size.0).map_err(|e| format!("{HEAP}: {e}")),
        _ => Err(format!("{HEAP}: expected a size")),
    }
}

fn apply(core: &Core, plan: &Plan) {
    log::set_level(plan.settings.logging.level, &core.log_level);
    let per_address = plan.settings.limits.max_connections_per_address;
    core.max_per_address.store(u32::try_from(per_address).unwrap_or(u32::MAX), Ordering::Relaxed);
    if let (Some(share), Some(tls)) = (&core.admin_tls, &plan.admin_tls) {
        share.set(tls);
    }
    core.slow_after_us.store(log::slow_us(&plan.settings.logging), Ordering::Relaxed);
    core.connection_memory.store(plan.settings.limits.connection_memory.0, Ordering::Relaxed);
    core.by_reference_ms.store(by_reference_ms(&plan.settings.limits), Ordering::Relaxed);
    for (at, listener) in plan.listeners.iter().enumerate() {
        core.timeouts[at].set(
            listener.idle_timeout,
            listener.request_timeout,
            listener.write_timeout,
        );
        if let (Some(share), Some(tls)) = (&core.listeners[at].tls, &listener.tls) {
            share.set(tls);
        }
        let mut users =
            core.listeners[at].users.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        *users = Arc::new(listener.users.clone());
    }
}
