//! Publish and subscribe. A message reaches its listeners through their mailboxes, in the order in
//! which it was published by one connection.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Cx;
use crate::error::Refusal;
use crate::hub::clients::Message;
use crate::hub::pubsub::Kind;
use crate::session::{Rare, mode};
use crate::table::Cmd;
use crate::write::{Sink, Writer};

/// The channel on which RESP2 connections hear of invalidations.
pub const INVALIDATE_CHANNEL: &[u8] = b"__redis__:invalidate";

fn kind_of(command: Cmd) -> Kind {
    match command {
        Cmd::Psubscribe | Cmd::Punsubscribe => Kind::Pattern,
        Cmd::Ssubscribe | Cmd::Sunsubscribe => Kind::Shard,
        _ => Kind::Channel,
    }
}

fn names(rare: &mut Rare, kind: Kind) -> &mut BTreeSet<Vec<u8>> {
    match kind {
        Kind::Channel => &mut rare.channels,
        Kind::Pattern => &mut rare.patterns,
        Kind::Shard => &mut rare.shard_channels,
    }
}

/// Copies the counts to where CLIENT LIST sees them.
fn note(cx: &mut Cx<'_, '_>) {
    let rare = cx.session.rare();
    let counts = [rare.channels.len(), rare.patterns.len(), rare.shard_channels.len()];
    for (slot, n) in cx.session.client.subscriptions.iter().zip(counts) {
        slot.store(n as u32, Ordering::Relaxed);
    }
    cx.session.set(mode::SUBSCRIBED, counts.iter().any(|n| *n > 0));
}

fn count(cx: &Cx<'_, '_>, kind: Kind) -> i64 {
    let (plain, shards) = cx.session.subscriptions();
    (if kind == Kind::Shard { shards } else { plain }) as i64
}

/// SUBSCRIBE, PSUBSCRIBE, SSUBSCRIBE.
pub(super) fn subscribe<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    command: Cmd,
    args: &[&[u8]],
    w: &mut Writer<'_, S>,
) {
    let kind = kind_of(command);
    for name in &args[1..] {
        let (plain, shards) = cx.session.subscriptions();
        if plain + shards >= cx.resp.settings.subscriptions_max as usize {
            cx.error(w, "ERR max number of subscriptions reached");
            continue;
        }
        if names(cx.session.rare(), kind).insert(name.to_vec()) {
            cx.resp.hub.pubsub.subscribe(kind, name, &cx.session.client);
        }
        w.push(3);
        w.bulk(command.spec().name.as_bytes());
        w.bulk(name);
        w.int(count(cx, kind));
    }
    note(cx);
}

/// UNSUBSCRIBE, PUNSUBSCRIBE, SUNSUBSCRIBE.
pub(super) fn unsubscribe<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    command: Cmd,
    args: &[&[u8]],
    w: &mut Writer<'_, S>,
) {
    let kind = kind_of(command);
    let all: Vec<Vec<u8>> = match args.len() {
        1 => names(cx.session.rare(), kind).iter().cloned().collect(),
        _ => args[1..].iter().map(|name| name.to_vec()).collect(),
    };
    let reply = command.spec().name.as_bytes();
    if all.is_empty() {
        w.push(3);
        w.bulk(reply);
        w.null();
        w.int(count(cx, kind));
    }
    for name in all {
        if names(cx.session.rare(), kind).remove(&name) {
            cx.resp.hub.pubsub.unsubscribe(kind, &name, cx.session.client.id);
        }
        w.push(3);
        w.bulk(reply);
        w.bulk(&name);
        w.int(count(cx, kind));
    }
    note(cx);
}

/// Ends all subscriptions, without a word.
pub(super) fn forget(cx: &mut Cx<'_, '_>) {
    let id = cx.session.client.id;
    if let Some(rare) = &mut cx.session.rare {
        leave(&cx.resp.hub.pubsub, rare, id);
        note(cx);
    }
}

/// Takes a connection out of everything it listens to.
pub fn leave(pubsub: &crate::hub::pubsub::Pubsub, rare: &mut Rare, id: u64) {
    for kind in [Kind::Channel, Kind::Pattern, Kind::Shard] {
        for name in std::mem::take(names(rare, kind)) {
            pubsub.unsubscribe(kind, &name, id);
        }
    }
}

/// PUBLISH and SPUBLISH.
pub(super) fn publish<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    command: Cmd,
    args: &[&[u8]],
    w: &mut Writer<'_, S>,
) {
    let reached = cx.resp.hub.publish(command == Cmd::Spublish, args[1], args[2]);
    w.int(reached as i64);
}

/// PUBSUB and its subcommands.
pub(super) fn introspect<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    sub: &str,
    args: &[&[u8]],
    w: &mut Writer<'_, S>,
) {
    let pubsub = &cx.resp.hub.pubsub;
    let kind = if sub.starts_with("shard") { Kind::Shard } else { Kind::Channel };
    match sub {
        "numpat" => w.int(pubsub.len(Kind::Pattern) as i64),
        "numsub" | "shardnumsub" => {
            w.array((args.len() - 2) * 2);
            for name in &args[2..] {
                w.bulk(name);
                w.int(pubsub.count(kind, name) as i64);
            }
        }
        _ if args.len() > 3 => cx.refuse(w, &Refusal::Arity(format!("pubsub|{sub}"))),
        _ => {
            let found = pubsub.names(kind, args.get(2).copied());
            w.array(found.len());
            for name in found {
                w.bulk(&name);
            }
        }
    }
}

/// Writes a message from the mailbox.
pub fn deliver<S: Sink + ?Sized>(message: &Message, w: &mut Writer<'_, S>) {
    match message {
        Message::Channel(kind, channel, payload) => {
            w.push(3);
            w.bulk(kind.as_bytes());
            w.bulk(channel);
            w.bulk(payload);
        }
        Message::Pattern(pattern, channel, payload) => {
            w.push(4);
            w.bulk(b"pmessage");
            w.bulk(pattern);
            w.bulk(channel);
            w.bulk(payload);
        }
        Message::Invalidate(keys) => invalidate(keys.as_deref(), w),
        Message::Monitor(line) => w.simple(line),
    }
}

fn invalidate<S: Sink + ?Sized>(keys: Option<&[Arc<[u8]>]>, w: &mut Writer<'_, S>) {
    // A RESP2 connection gets it as a message of the channel it was told to listen to.
    if w.is_resp3() {
        w.push(2);
        w.bulk(b"invalidate");
    } else {
        w.array(3);
        w.bulk(b"message");
        w.bulk(INVALIDATE_CHANNEL);
    }
    match keys {
        None => w.null_array(),
        Some(keys) => {
            w.array(keys.len());
            for key in keys {
                w.bulk(key);
            }
        }
    }
}
