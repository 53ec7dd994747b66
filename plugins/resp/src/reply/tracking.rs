//! CLIENT TRACKING, TRACKINGINFO and CACHING: which changes of keys a client is told.

use std::sync::Arc;

use super::Cx;
use super::client::on_off;
use crate::error::Refusal;
use crate::hub::tracking::Tracker;
use crate::number::parse_i64;
use crate::session::{Tracking, mode};
use crate::write::{Sink, Writer};

pub(super) fn tracking<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    args: &[&[u8]],
    w: &mut Writer<'_, S>,
) -> Result<(), Refusal> {
    let text = |t: &str| Err(Refusal::Text(t.to_owned()));
    let (mut ask, mut at) = (Tracking::default(), 3);
    while at < args.len() {
        match args[at].to_ascii_lowercase().as_slice() {
            b"redirect" if at + 1 < args.len() => {
                at += 1;
                ask.redirect = parse_i64(args[at])
                    .filter(|id| *id >= 0)
                    .ok_or_else(|| Refusal::Text("ERR Invalid client ID".to_owned()))?
                    as u64;
            }
            b"prefix" if at + 1 < args.len() => {
                at += 1;
                ask.prefixes.push(args[at].to_vec());
            }
            b"bcast" => ask.bcast = true,
            b"optin" => ask.optin = true,
            b"optout" => ask.optout = true,
            b"noloop" => ask.noloop = true,
            _ => return Err(Refusal::Syntax),
        }
        at += 1;
    }
    if !on_off(args[2])? {
        cx.session.set(mode::TRACKING, false);
        cx.session.rare().tracking = Tracking::default();
        cx.resp.hub.tracking.end(cx.session.client.id);
        w.ok();
        return Ok(());
    }
    if !ask.prefixes.is_empty() && !ask.bcast {
        return text("ERR PREFIX option requires BCAST mode to be enabled");
    }
    if ask.bcast && (ask.optin || ask.optout) {
        return text("ERR OPTIN and OPTOUT are not compatible with BCAST");
    }
    if ask.optin && ask.optout {
        return text("ERR You can't specify both OPTIN mode and OPTOUT mode");
    }
    if cx.session.is(mode::TRACKING) {
        let now = cx.session.rare().tracking.clone();
        if now.bcast != ask.bcast {
            return text(
                "ERR You can't switch BCAST mode on/off before disabling tracking for this \
                 client, and then re-enabling it with a different mode.",
            );
        }
        if now.optin != ask.optin && now.optout != ask.optout {
            return text(
                "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this \
                 client, and then re-enabling it with a different mode.",
            );
        }
    }
    if ask.redirect != 0 && cx.resp.hub.clients.get(ask.redirect).is_none() {
        return text("ERR The client ID you want redirect to does not exist");
    }
    for (i, a) in ask.prefixes.iter().enumerate() {
        if let Some(b) = ask.prefixes[..i].iter().find(|b| a.starts_with(b) || b.starts_with(a)) {
            return text(&format!(
                "ERR Prefix '{}' overlaps with another provided prefix '{}'. Prefixes for a \
                 single client must not overlap.",
                crate::error::quote(b),
                crate::error::quote(a)
            ));
        }
    }
    let me = Arc::clone(&cx.session.client);
    let to = match ask.redirect {
        0 => Arc::clone(&me),
        id => cx.resp.hub.clients.get(id).unwrap_or_else(|| Arc::clone(&me)),
    };
    let prefixes = ask.bcast.then(|| match ask.prefixes.is_empty() {
        true => vec![Vec::new()],
        false => ask.prefixes.clone(),
    });
    let silent_conn = if ask.noloop { me.conn_id } else { 0 };
    cx.resp.hub.tracking.begin(me.id, Tracker { to, silent_conn, prefixes });
    cx.session.set(mode::TRACKING, true);
    cx.session.rare().tracking = ask;
    w.ok();
    Ok(())
}

pub(super) fn tracking_info<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, w: &mut Writer<'_, S>) {
    let on = cx.session.is(mode::TRACKING);
    let tracking = cx.session.rare().tracking.clone();
    let mut flags = vec![if on { "on" } else { "off" }];
    for (set, name) in [
        (tracking.bcast, "bcast"),
        (tracking.optin, "optin"),
        (tracking.optin && tracking.caching == Some(true), "caching-yes"),
        (tracking.optout, "optout"),
        (tracking.optout && tracking.caching == Some(false), "caching-no"),
        (tracking.noloop, "noloop"),
    ] {
        if set {
            flags.push(name);
        }
    }
    w.map(3);
    w.bulk(b"flags");
    w.set(flags.len());
    for name in flags {
        w.bulk(name.as_bytes());
    }
    w.bulk(b"redirect");
    w.int(if on { tracking.redirect as i64 } else { -1 });
    w.bulk(b"prefixes");
    w.array(tracking.prefixes.len());
    for prefix in &tracking.prefixes {
        w.bulk(prefix);
    }
}

pub(super) fn caching<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    what: &[u8],
    w: &mut Writer<'_, S>,
) -> Result<(), Refusal> {
    if !cx.session.is(mode::TRACKING) {
        return Err(Refusal::Text(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with \
             OPTIN or OPTOUT mode enabled"
                .to_owned(),
        ));
    }
    let tracking = &mut cx.session.rare().tracking;
    match (what.to_ascii_lowercase().as_slice(), tracking.optin, tracking.optout) {
        (b"yes", true, _) => tracking.caching = Some(true),
        (b"no", _, true) => tracking.caching = Some(false),
        (b"yes", false, _) => {
            return Err(Refusal::Text(
                "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode."
                    .to_owned(),
            ));
        }
        (b"no", _, false) => {
            return Err(Refusal::Text(
                "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode."
                    .to_owned(),
            ));
        }
        _ => return Err(Refusal::Syntax),
    }
    w.ok();
    Ok(())
}
