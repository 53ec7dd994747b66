//! CLUSTER, and the modes of cluster clients.

use std::fmt::Write as _;

use super::Cx;
use crate::cluster::{Cluster, Node, SLOTS, slot_of};
use crate::error::Refusal;
use crate::number::parse_i64;
use crate::session::mode;
use crate::table::Cmd;
use crate::write::{Sink, Writer};

/// Keys that one walk visits for COUNTKEYSINSLOT and GETKEYSINSLOT.
const STEP: u32 = 1024;

/// ASKING, READONLY, READWRITE.
pub(super) fn mode<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, command: Cmd, w: &mut Writer<'_, S>) {
    if cx.resp.cluster.is_none() {
        return cx.error(w, "ERR This instance has cluster support disabled");
    }
    match command {
        Cmd::Asking => cx.session.set(mode::ASKING, true),
        command => cx.session.set(mode::READONLY, command == Cmd::Readonly),
    }
    w.ok();
}

/// CLUSTER and its subcommands.
pub(super) fn run<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    sub: &str,
    args: &[&[u8]],
    w: &mut Writer<'_, S>,
) {
    let resp = cx.resp;
    let Some(map) = &resp.cluster else {
        return cx.error(w, "ERR This instance has cluster support disabled");
    };
    match sub {
        "slots" => slots(map, w),
        "shards" => shards(map, w),
        "nodes" => w.verbatim("txt", nodes(map).as_bytes()),
        "links" => w.array(0),
        "info" => w.verbatim("txt", info(map).as_bytes()),
        "myid" | "myshardid" => w.bulk(map.myself().id.as_bytes()),
        "keyslot" => w.int(i64::from(slot_of(args[2]))),
        _ => keys_in_slot(cx, sub == "countkeysinslot", args, w),
    }
}

fn slots<S: Sink + ?Sized>(map: &Cluster, w: &mut Writer<'_, S>) {
    w.array(map.nodes.iter().map(|n| n.slots.len()).sum());
    for node in &map.nodes {
        for range in &node.slots {
            w.array(3);
            w.int(i64::from(*range.start()));
            w.int(i64::from(*range.end()));
            w.array(4);
            w.bulk(node.host.as_bytes());
            w.int(i64::from(node.port));
            w.bulk(node.id.as_bytes());
            w.array(0);
        }
    }
}

fn shards<S: Sink + ?Sized>(map: &Cluster, w: &mut Writer<'_, S>) {
    w.array(map.nodes.len());
    for node in &map.nodes {
        w.map(2);
        w.bulk(b"slots");
        w.array(2 * node.slots.len());
        for range in &node.slots {
            w.int(i64::from(*range.start()));
            w.int(i64::from(*range.end()));
        }
        w.bulk(b"nodes");
        w.array(1);
        w.map(7);
        for (name, text) in [("id", &node.id), ("ip", &node.host), ("endpoint", &node.host)] {
            w.bulk(name.as_bytes());
            w.bulk(text.as_bytes());
        }
        for (name, text) in [("role", "master"), ("health", "online")] {
            w.bulk(name.as_bytes());
            w.bulk(text.as_bytes());
        }
        w.bulk(b"port");
        w.int(i64::from(node.port));
        w.bulk(b"replication-offset");
        w.int(0);
    }
}

fn nodes(map: &Cluster) -> String {
    let mut text = String::new();
    for (i, node) in map.nodes.iter().enumerate() {
        let Node { id, host, port, slots } = node;
        let flags = if i == map.me { "myself,master" } else { "master" };
        let bus = u32::from(*port) + 10_000;
        let _infallible =
            write!(text, "{id} {host}:{port}@{bus} {flags} - 0 0 {} connected", i + 1);
        for range in slots {
            let _infallible = if range.start() == range.end() {
                write!(text, " {}", range.start())
            } else {
                write!(text, " {}-{}", range.start(), range.end())
            };
        }
        text.push('\n');
    }
    text
}

fn info(map: &Cluster) -> String {
    let assigned = map.assigned();
    let state = if assigned == usize::from(SLOTS) { "ok" } else { "fail" };
    let size = map.nodes.iter().filter(|n| !n.slots.is_empty()).count();
    format!(
        "cluster_state:{state}\r\ncluster_slots_assigned:{assigned}\r\n\
         cluster_slots_ok:{assigned}\r\ncluster_slots_pfail:0\r\ncluster_slots_fail:0\r\n\
         cluster_known_nodes:{}\r\ncluster_size:{size}\r\ncluster_current_epoch:{}\r\n\
         cluster_my_epoch:{}\r\n",
        map.nodes.len(),
        map.nodes.len(),
        map.me + 1
    )
}

fn keys_in_slot<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    count_only: bool,
    args: &[&[u8]],
    w: &mut Writer<'_, S>,
) {
    let slot = match parse_i64(args[2]).map(u16::try_from) {
        Some(Ok(slot)) if slot < SLOTS => slot,
        _ => return cx.error(w, "ERR Invalid slot"),
    };
    let most = match args.get(3) {
        None => usize::MAX,
        Some(n) => match parse_i64(n).map(usize::try_from) {
            Some(Ok(n)) => n,
            _ => return cx.refuse(w, &Refusal::NotPositive),
        },
    };
    let (mut cursor, mut found) = (0, std::collections::BTreeSet::new());
    loop {
        let next = cx.worker.service.scan(cursor, STEP, &mut |key, _| {
            if slot_of(key) == slot {
                found.insert(key.to_vec());
            }
            found.len() < most
        });
        match next {
            Err(status) => return cx.refuse(w, &super::store_refusal(status)),
            Ok(0) => break,
            Ok(_) if found.len() >= most => break,
            Ok(next) => cursor = next,
        }
    }
    if count_only {
        return w.int(found.len() as i64);
    }
    w.array(found.len().min(most));
    for key in found.iter().take(most) {
        w.bulk(key);
    }
}
