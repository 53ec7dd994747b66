//! CLIENT LIST, INFO and KILL: who is connected.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crucible_plugin_api::After;

use super::Cx;
use crate::error::Refusal;
use crate::hub::clients::Client;
use crate::number::parse_i64;
use crate::session::mode;
use crate::table::TABLE;
use crate::write::{Sink, Writer};

/// A line of CLIENT LIST.
pub(super) fn describe(cx: &Cx<'_, '_>, client: &Client) -> String {
    let now_ms = cx.queue.now_ms();
    let names = client.names();
    let bits = client.mode.load(Ordering::Relaxed);
    let mut flags = String::new();
    for (bit, letter) in [
        (mode::MONITOR, 'O'),
        (mode::SUBSCRIBED, 'P'),
        (mode::MULTI, 'x'),
        (mode::TRACKING, 't'),
        (mode::NO_TOUCH, 'T'),
        (mode::READONLY, 'r'),
    ] {
        if bits & bit != 0 {
            flags.push(letter);
        }
    }
    if client.peer.is_none() {
        flags.push('U');
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let seconds = |since_ms: u64| now_ms.saturating_sub(since_ms) / 1000;
    let [channels, patterns, shards] =
        [0, 1, 2].map(|i: usize| client.subscriptions[i].load(Ordering::Relaxed));
    let latest = usize::from(client.latest.load(Ordering::Relaxed));
    let mut line = String::new();
    let _infallible = write!(
        line,
        "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db=0 sub={channels} \
         psub={patterns} ssub={shards} multi={} cmd={} user={} redir=-1 resp={} lib-name={} \
         lib-ver={}",
        client.id,
        client.addr(),
        client.laddr(),
        names.name,
        seconds(client.opened_ms),
        seconds(client.active_ms.load(Ordering::Relaxed)),
        client.queued.load(Ordering::Relaxed),
        TABLE.get(latest).map_or("NULL", |spec| spec.name),
        names.user,
        client.version.load(Ordering::Relaxed),
        names.lib_name,
        names.lib_ver,
    );
    line
}

/// Kinds of clients in CLIENT LIST TYPE and CLIENT KILL TYPE.
fn is_of_type(client: &Client, kind: &[u8]) -> Result<bool, Refusal> {
    let listens = client.mode.load(Ordering::Relaxed) & mode::SUBSCRIBED != 0;
    match kind.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(!listens),
        b"pubsub" => Ok(listens),
        b"master" | b"replica" | b"slave" => Ok(false),
        _ => {
            let kind = crate::error::quote(kind);
            Err(Refusal::Text(format!("ERR Unknown client type '{kind}'")))
        }
    }
}

pub(super) fn list<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    args: &[&[u8]],
    w: &mut Writer<'_, S>,
) -> Result<(), Refusal> {
    let mut chosen = cx.resp.hub.clients.list();
    match args.get(2) {
        None => {}
        Some(word) if word.eq_ignore_ascii_case(b"type") && args.len() == 4 => {
            is_of_type(&cx.session.client, args[3])?;
            chosen.retain(|c| is_of_type(c, args[3]).unwrap_or(false));
        }
        Some(word) if word.eq_ignore_ascii_case(b"id") && args.len() > 3 => {
            let mut ids = Vec::new();
            for id in &args[3..] {
                ids.push(
                    parse_i64(id)
                        .ok_or_else(|| Refusal::Text("ERR Invalid client ID".to_owned()))?
                        as u64,
                );
            }
            chosen.retain(|c| ids.contains(&c.id));
        }
        Some(_) => return Err(Refusal::Syntax),
    }
    let mut text = String::new();
    for client in chosen {
        text.push_str(&describe(cx, &client));
        text.push('\n');
    }
    w.verbatim("txt", text.as_bytes());
    Ok(())
}

/// What CLIENT KILL looks for.
#[derive(Default)]
struct Filter<'a> {
    id: Option<u64>,
    kind: Option<&'a [u8]>,
    user: Option<&'a [u8]>,
    addr: Option<&'a [u8]>,
    laddr: Option<&'a [u8]>,
    spare_me: bool,
}

fn read_filter<'a>(args: &[&'a [u8]]) -> Result<Filter<'a>, Refusal> {
    let mut filter = Filter { spare_me: true, ..Filter::default() };
    if args.len() == 3 {
        filter.addr = Some(args[2]);
        filter.spare_me = false;
        return Ok(filter);
    }
    if !args.len().is_multiple_of(2) {
        return Err(Refusal::Syntax);
    }
    for pair in args[2..].chunks_exact(2) {
        let value = pair[1];
        match pair[0].to_ascii_lowercase().as_slice() {
            b"id" => {
                let id = parse_i64(value).filter(|id| *id > 0).ok_or_else(|| {
                    Refusal::Text("ERR client-id should be greater than 0".to_owned())
                })?;
                filter.id = Some(id as u64);
            }
            b"type" => filter.kind = Some(value),
            b"user" => filter.user = Some(value),
            b"addr" => filter.addr = Some(value),
            b"laddr" => filter.laddr = Some(value),
            b"skipme" => {
                filter.spare_me = match value.to_ascii_lowercase().as_slice() {
                    b"yes" => true,
                    b"no" => false,
                    _ => return Err(Refusal::Syntax),
                }
            }
            _ => return Err(Refusal::Syntax),
        }
    }
    Ok(filter)
}

pub(super) fn kill<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    args: &[&[u8]],
    w: &mut Writer<'_, S>,
) -> After {
    let filter = match read_filter(args) {
        Ok(filter) => filter,
        Err(refusal) => {
            cx.refuse(w, &refusal);
            return After::Done;
        }
    };
    if let Some(kind) = filter.kind
        && let Err(refusal) = is_of_type(&cx.session.client, kind)
    {
        cx.refuse(w, &refusal);
        return After::Done;
    }
    let me = cx.session.client.id;
    let chosen: Vec<Arc<Client>> = cx.resp.hub.clients.list();
    if let Some(user) = filter.user
        && user != b"default"
        && !chosen.iter().any(|c| c.names().user.as_bytes() == user)
    {
        let user = crate::error::quote(user);
        cx.error(w, &format!("ERR No such user '{user}'"));
        return After::Done;
    }
    let chosen = chosen.into_iter().filter(|c| {
        filter.id.is_none_or(|id| id == c.id)
            && filter.kind.is_none_or(|k| is_of_type(c, k).unwrap_or(false))
            && filter.user.is_none_or(|u| c.names().user.as_bytes() == u)
            && filter.addr.is_none_or(|a| c.addr().as_bytes() == a)
            && filter.laddr.is_none_or(|a| c.laddr().as_bytes() == a)
            && !(filter.spare_me && c.id == me)
    });
    let (mut killed, mut after) = (0, After::Done);
    for client in chosen {
        killed += 1;
        if client.id == me {
            after = After::Close;
        } else {
            cx.resp.hub.clients.kill(&client);
        }
    }
    match (args.len(), killed) {
        (3, 0) => cx.error(w, "ERR No such client"),
        (3, _) => w.ok(),
        _ => w.int(killed),
    }
    after
}
