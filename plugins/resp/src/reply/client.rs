//! CLIENT: what a connection asks about itself, and how it controls others.

use std::sync::atomic::Ordering;

use crucible_plugin_api::After;

use super::Cx;
use super::connection::is_plain_name;
use super::listing::{describe, kill, list};
use super::tracking::{caching, tracking, tracking_info};
use crate::error::Refusal;
use crate::hub::clients::Names;
use crate::hub::waiting::{WAKE_UNBLOCK, WAKE_UNBLOCK_ERROR};
use crate::number::parse_i64;
use crate::session::mode;
use crate::write::{Sink, Writer};

/// Longest wait that a client may ask for, in milliseconds (a day).
const WAIT_MS_MAX: i64 = 86_400_000;
/// CLIENT UNBLOCK client-id [TIMEOUT|ERROR]
fn unblock<S: Sink + ?Sized>(
    cx: &Cx<'_, '_>,
    args: &[&[u8]],
    w: &mut Writer<'_, S>,
) -> Result<(), Refusal> {
    if args.len() > 4 {
        let text =
            "ERR unknown subcommand or wrong number of arguments for 'UNBLOCK'. Try CLIENT HELP.";
        return Err(Refusal::Text(text.to_owned()));
    }
    let token = match args.get(3).map(|how| how.to_ascii_lowercase()).as_deref() {
        None | Some(b"timeout") => WAKE_UNBLOCK,
        Some(b"error") => WAKE_UNBLOCK_ERROR,
        Some(_) => {
            let text = "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR";
            return Err(Refusal::Text(text.to_owned()));
        }
    };
    let id = parse_i64(args[2]).ok_or(Refusal::NotAnInteger)?;
    let client = u64::try_from(id).ok().and_then(|id| cx.resp.hub.clients.get(id));
    let waiting = client.filter(|client| client.waits.load(Ordering::Relaxed));
    if let Some(client) = &waiting {
        cx.resp.hub.env.wake(client.conn_id, token);
    }
    w.int(i64::from(waiting.is_some()));
    Ok(())
}

/// CLIENT and its subcommands.
pub(super) fn client<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    sub: &str,
    args: &[&[u8]],
    w: &mut Writer<'_, S>,
) -> After {
    let done = match sub {
        "id" => {
            w.int(cx.session.client.id as i64);
            Ok(())
        }
        "getname" => {
            let name = cx.session.client.names().name;
            if name.is_empty() {
                w.null()
            } else {
                w.bulk(name.as_bytes())
            }
            Ok(())
        }
        "setname" => set_name(cx, args[2], w),
        "setinfo" => set_info(cx, args, w),
        "info" => {
            let line = describe(cx, &cx.session.client) + "\n";
            w.verbatim("txt", line.as_bytes());
            Ok(())
        }
        "list" => list(cx, args, w),
        "kill" => return kill(cx, args, w),
        "pause" => pause(cx, args, w),
        "unpause" => {
            cx.resp.hub.pause(0, false);
            w.ok();
            Ok(())
        }
        "reply" => reply(cx, args[2], w),
        "no-evict" => on_off(args[2]).map(|_| w.ok()),
        "no-touch" => on_off(args[2]).map(|on| {
            cx.session.set(mode::NO_TOUCH, on);
            w.ok();
        }),
        "unblock" => unblock(cx, args, w),
        "tracking" => tracking(cx, args, w),
        "trackinginfo" => {
            tracking_info(cx, w);
            Ok(())
        }
        "caching" => caching(cx, args[2], w),
        "getredir" => {
            let redirect = cx.session.rare.as_ref().map_or(0, |r| r.tracking.redirect as i64);
            w.int(if cx.session.is(mode::TRACKING) { redirect } else { -1 });
            Ok(())
        }
        _ => Err(Refusal::Syntax),
    };
    if let Err(refusal) = done {
        cx.refuse(w, &refusal);
    }
    After::Done
}

/// ON or OFF.
pub(super) fn on_off(text: &[u8]) -> Result<bool, Refusal> {
    if text.eq_ignore_ascii_case(b"on") {
        Ok(true)
    } else if text.eq_ignore_ascii_case(b"off") {
        Ok(false)
    } else {
        Err(Refusal::Syntax)
    }
}

fn set_name<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    name: &[u8],
    w: &mut Writer<'_, S>,
) -> Result<(), Refusal> {
    if !is_plain_name(name) {
        return Err(Refusal::ClientName);
    }
    let name = String::from_utf8_lossy(name).into_owned();
    cx.session.client.rename(|names| names.name = name);
    w.ok();
    Ok(())
}

fn set_info<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    args: &[&[u8]],
    w: &mut Writer<'_, S>,
) -> Result<(), Refusal> {
    let (what, field): (_, fn(&mut Names) -> &mut String) =
        match args[2].to_ascii_lowercase().as_slice() {
            b"lib-name" => ("lib-name", |n| &mut n.lib_name),
            b"lib-ver" => ("lib-ver", |n| &mut n.lib_ver),
            _ => {
                let option = crate::error::quote(args[2]);
                return Err(Refusal::Text(format!("ERR Unrecognized option '{option}'")));
            }
        };
    if !is_plain_name(args[3]) {
        return Err(Refusal::LibName(what));
    }
    let text = String::from_utf8_lossy(args[3]).into_owned();
    cx.session.client.rename(|names| *field(names) = text);
    w.ok();
    Ok(())
}

fn pause<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    args: &[&[u8]],
    w: &mut Writer<'_, S>,
) -> Result<(), Refusal> {
    let writes_only = match args.get(3) {
        None => false,
        Some(word) if args.len() == 4 && word.eq_ignore_ascii_case(b"all") => false,
        Some(word) if args.len() == 4 && word.eq_ignore_ascii_case(b"write") => true,
        Some(_) => {
            return Err(Refusal::Text("ERR CLIENT PAUSE mode must be WRITE or ALL".to_owned()));
        }
    };
    let bad = || Refusal::Text("ERR timeout is not an integer or out of range".to_owned());
    let wait_ms = parse_i64(args[2]).ok_or_else(bad)?;
    if wait_ms < 0 {
        return Err(Refusal::Text("ERR timeout is negative".to_owned()));
    }
    let until_ms = cx.queue.now_ms() + wait_ms.min(WAIT_MS_MAX) as u64;
    cx.resp.hub.pause(until_ms, writes_only);
    w.ok();
    Ok(())
}

fn reply<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    what: &[u8],
    w: &mut Writer<'_, S>,
) -> Result<(), Refusal> {
    match what.to_ascii_lowercase().as_slice() {
        b"on" => {
            cx.session.set(mode::REPLY_OFF | mode::REPLY_SKIP, false);
            w.ok();
        }
        b"off" => {
            cx.session.set(mode::REPLY_OFF, true);
        }
        b"skip" => {
            if !cx.session.is(mode::REPLY_OFF) {
                cx.session.set(mode::REPLY_SKIP, true);
            }
        }
        _ => return Err(Refusal::Syntax),
    }
    Ok(())
}
