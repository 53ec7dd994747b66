//! What `COMMAND INFO` and `COMMAND DOCS` say of a row. Called by the server command room.

use super::key_specs::{key_specs, key_words, write_key_specs};
use super::syntax::{self, Arg, Kind};
use super::{Cmd, Group, Keys, Spec, Sub, flag, key_use};
use crate::write::{Sink, Writer};

/// Names of the groups in `COMMAND DOCS`, and their ACL category where they have one.
fn group_names(group: Group) -> (&'static str, Option<&'static str>) {
    match group {
        Group::String => ("string", Some("@string")),
        Group::Bitmap => ("bitmap", Some("@bitmap")),
        Group::Generic => ("generic", Some("@keyspace")),
        Group::Connection => ("connection", Some("@connection")),
        Group::Server => ("server", None),
        Group::Transactions => ("transactions", Some("@transaction")),
        Group::Pubsub => ("pubsub", None),
        Group::Cluster => ("cluster", None),
        Group::Scripting => ("scripting", Some("@scripting")),
        Group::Hash => ("hash", Some("@hash")),
        Group::List => ("list", Some("@list")),
        Group::Set => ("set", Some("@set")),
        Group::SortedSet => ("sorted-set", Some("@sortedset")),
        Group::Geo => ("geo", Some("@geo")),
        Group::Hyperloglog => ("hyperloglog", Some("@hyperloglog")),
        Group::Stream => ("stream", Some("@stream")),
    }
}

/// All ACL categories, as `ACL CAT` lists them.
pub const CATEGORIES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// Commands of operators and of slow walks over everything.
fn is_dangerous(command: Cmd) -> bool {
    matches!(
        command,
        Cmd::Keys
            | Cmd::Flushall
            | Cmd::Flushdb
            | Cmd::Info
            | Cmd::Restore
            | Cmd::Sort
            | Cmd::SortRo
            | Cmd::Role
    )
}

/// Categories of a command, each with its `@`.
pub fn categories(command: Cmd) -> Vec<&'static str> {
    let spec = command.spec();
    let has_subs = !spec.subs.is_empty();
    let mut own = match (spec.group, command) {
        (_, Cmd::Dbsize | Cmd::Flushall | Cmd::Flushdb) => vec!["@keyspace"],
        (_, Cmd::Command | Cmd::Wait | Cmd::Asking | Cmd::Readonly | Cmd::Readwrite) => {
            vec!["@connection"]
        }
        (_, Cmd::Sort | Cmd::SortRo) => vec!["@set", "@sortedset", "@list"],
        (_, Cmd::Client | Cmd::Object) => vec![],
        (group, _) => group_names(group).1.into_iter().collect(),
    };
    if spec.group == Group::Connection && !has_subs {
        own = vec!["@connection"];
    }
    add_flag_categories(spec.flags, &mut own);
    if is_dangerous(command) && !own.contains(&"@dangerous") {
        own.push("@dangerous");
    }
    own
}

fn add_flag_categories(flags: u32, out: &mut Vec<&'static str>) {
    for (bit, name) in
        [(flag::READONLY, "@read"), (flag::WRITE, "@write"), (flag::PUBSUB, "@pubsub")]
    {
        if flags & bit != 0 {
            out.push(name);
        }
    }
    if flags & flag::ADMIN != 0 {
        out.push("@admin");
        out.push("@dangerous");
    }
    out.push(if flags & flag::FAST != 0 { "@fast" } else { "@slow" });
    if flags & flag::BLOCKING != 0 {
        out.push("@blocking");
    }
}

/// Hints for proxies and cluster clients.
fn tips(command: Cmd) -> &'static [&'static str] {
    match command {
        Cmd::Del | Cmd::Exists | Cmd::Touch | Cmd::Unlink => {
            &["request_policy:multi_shard", "response_policy:agg_sum"]
        }
        Cmd::Mget => &["request_policy:multi_shard"],
        Cmd::Mset => &["request_policy:multi_shard", "response_policy:all_succeeded"],
        Cmd::Msetnx => &["request_policy:multi_shard", "response_policy:agg_min"],
        Cmd::Ping | Cmd::Flushall | Cmd::Flushdb => {
            &["request_policy:all_shards", "response_policy:all_succeeded"]
        }
        Cmd::Dbsize => &["request_policy:all_shards", "response_policy:agg_sum"],
        Cmd::Wait => &["request_policy:all_shards", "response_policy:agg_min"],
        Cmd::Keys => &["request_policy:all_shards", "nondeterministic_output_order"],
        Cmd::Randomkey => &["request_policy:all_shards", "nondeterministic_output"],
        Cmd::Scan => &["nondeterministic_output", "request_policy:special"],
        Cmd::Info => {
            &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"]
        }
        Cmd::Ttl | Cmd::Pttl | Cmd::Dump | Cmd::Time => &["nondeterministic_output"],
        Cmd::Command => &["nondeterministic_output_order"],
        _ => &[],
    }
}

fn write_flags<S: Sink + ?Sized>(w: &mut Writer<'_, S>, flags: u32) {
    let names: Vec<_> = flag::NAMES.iter().filter(|(bit, _)| flags & bit != 0).collect();
    w.set(names.len());
    for (_, name) in names {
        w.simple(name);
    }
}

fn write_facts<S: Sink + ?Sized>(
    w: &mut Writer<'_, S>,
    name: &str,
    arity: i8,
    flags: u32,
    keys: Keys,
    categories: &[&str],
) {
    w.array(10);
    w.bulk(name.as_bytes());
    w.int(i64::from(arity));
    write_flags(w, flags);
    w.int(i64::from(keys.first));
    w.int(i64::from(keys.last));
    w.int(i64::from(keys.step));
    w.set(categories.len());
    for category in categories {
        w.simple(category);
    }
}

/// Writes one element of `COMMAND INFO`.
pub fn write_info<S: Sink + ?Sized>(w: &mut Writer<'_, S>, command: Cmd) {
    let spec = command.spec();
    write_facts(w, spec.name, spec.arity, spec.flags, spec.keys, &categories(command));
    w.set(tips(command).len());
    for tip in tips(command) {
        w.bulk(tip.as_bytes());
    }
    write_key_specs(w, &key_specs(command), key_words(command));
    // Redis says "no subcommands" as an empty set.
    if spec.subs.is_empty() {
        w.set(0)
    } else {
        w.array(spec.subs.len())
    }
    for sub in spec.subs {
        write_sub_info(w, spec, sub);
    }
}

/// Writes one element of `COMMAND INFO` for a subcommand.
pub fn write_sub_info<S: Sink + ?Sized>(w: &mut Writer<'_, S>, spec: &Spec, sub: &Sub) {
    let mut categories = Vec::new();
    add_flag_categories(sub.flags, &mut categories);
    if matches!(spec.group, Group::Connection) || spec.name == "command" {
        categories.push("@connection");
    }
    let name = format!("{}|{}", spec.name, sub.name);
    write_facts(w, &name, sub.arity, sub.flags, sub.keys, &categories);
    w.set(0);
    let specs: Vec<(u16, Keys)> = match sub.keys {
        Keys::NONE => Vec::new(),
        keys => vec![(key_use::RO, keys)],
    };
    write_key_specs(w, &specs, &[]);
    w.set(0);
}

/// Writes one pair of `COMMAND DOCS`.
pub fn write_docs<S: Sink + ?Sized>(w: &mut Writer<'_, S>, command: Cmd) {
    let spec = command.spec();
    let args = syntax::parse(spec.syntax);
    w.bulk(spec.name.as_bytes());
    w.map(3 + usize::from(!args.is_empty()) + usize::from(!spec.subs.is_empty()));
    write_doc_head(w, spec.summary, spec);
    if !args.is_empty() {
        w.bulk(b"arguments");
        write_args(w, &args, true);
    }
    if !spec.subs.is_empty() {
        w.bulk(b"subcommands");
        w.map(spec.subs.len());
        for sub in spec.subs {
            write_sub_docs(w, spec, sub);
        }
    }
}

/// Writes one pair of `COMMAND DOCS` for a subcommand.
pub fn write_sub_docs<S: Sink + ?Sized>(w: &mut Writer<'_, S>, spec: &Spec, sub: &Sub) {
    let args = syntax::parse(sub.syntax);
    w.bulk(format!("{}|{}", spec.name, sub.name).as_bytes());
    w.map(3 + usize::from(!args.is_empty()));
    write_doc_head(w, sub.summary, spec);
    if !args.is_empty() {
        w.bulk(b"arguments");
        write_args(w, &args, true);
    }
}

fn write_doc_head<S: Sink + ?Sized>(w: &mut Writer<'_, S>, summary: &str, spec: &Spec) {
    for (name, value) in
        [("summary", summary), ("since", spec.since), ("group", group_names(spec.group).0)]
    {
        w.bulk(name.as_bytes());
        w.bulk(value.as_bytes());
    }
}

fn write_args<S: Sink + ?Sized>(w: &mut Writer<'_, S>, args: &[Arg], top: bool) {
    w.array(args.len());
    for arg in args {
        let (kind, inner) = match &arg.kind {
            Kind::Leaf(kind) => (*kind, None),
            Kind::OneOf(args) => ("oneof", Some(args)),
            Kind::Block(args) => ("block", Some(args)),
        };
        let is_key = kind == "key" && top;
        let flags = usize::from(arg.optional) + usize::from(arg.multiple);
        let fields = 2
            + usize::from(is_key)
            + usize::from(arg.token.is_some())
            + usize::from(flags > 0)
            + usize::from(inner.is_some());
        w.map(fields);
        w.bulk(b"name");
        w.bulk(arg.name.as_bytes());
        w.bulk(b"type");
        w.bulk(kind.as_bytes());
        if is_key {
            w.bulk(b"key_spec_index");
            w.int(0);
        }
        if let Some(token) = &arg.token {
            w.bulk(b"token");
            w.bulk(token.as_bytes());
        }
        if flags > 0 {
            w.bulk(b"flags");
            w.set(flags);
            for (set, name) in [(arg.optional, "optional"), (arg.multiple, "multiple")] {
                if set {
                    w.simple(name);
                }
            }
        }
        if let Some(inner) = inner {
            w.bulk(b"arguments");
            write_args(w, inner, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write::Version;

    fn text(f: impl Fn(&mut Writer<'_, Vec<u8>>)) -> String {
        let mut out = Vec::new();
        f(&mut Writer::new(&mut out, Version::Resp3));
        String::from_utf8(out).unwrap().replace("\r\n", " ")
    }

    #[test]
    fn the_facts_of_get_are_those_that_redis_gives() {
        assert_eq!(
            text(|w| write_info(w, Cmd::Get)),
            "*10 $3 get :2 ~2 +readonly +fast :1 :1 :1 ~3 +@string +@read +@fast ~0 ~1 %3 $5 flags \
             ~2 +RO +access $12 begin_search %2 $4 type $5 index $4 spec %1 $5 index :1 $9 \
             find_keys %2 $4 type $5 range $4 spec %3 $7 lastkey :0 $7 keystep :1 $5 limit :0 ~0 "
        );
    }

    #[test]
    fn docs_carry_arguments_and_subcommands() {
        let docs = text(|w| write_docs(w, Cmd::Expire));
        assert!(docs.starts_with("$6 expire %4 $7 summary "), "{docs}");
        assert!(docs.contains("$5 since $5 1.0.0 $5 group $7 generic $9 arguments *3 "), "{docs}");
        assert!(text(|w| write_docs(w, Cmd::Config)).contains("$10 config|get %4 "));
    }
}
