//! Commands that run when they are answered: their way to the right room, and those about the
//! server itself.

use crucible_plugin_api::{After, Op, Status};

use super::{Cx, carried, client, cluster, config, connection, info, pubsub, scan, transaction};
use crate::error::Refusal;
use crate::exec::keys::subcommand;
use crate::frame::{Args, Span};
use crate::glob;
use crate::number::parse_i64;
use crate::table::{Cmd, Keys, describe, flag, key_specs};
use crate::write::{Sink, Writer};

/// Runs a command that carried its arguments.
pub(super) fn run<'a, S: Sink + ?Sized>(
    cx: &mut Cx<'_, 'a>,
    command: Cmd,
    ops: &[Op<'a>],
    w: &mut Writer<'_, S>,
) -> After {
    let args = carried(ops);
    let began = std::time::Instant::now();
    let after = dispatch(cx, command, &args, w);
    let took = began.elapsed();
    let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
    cx.worker.timing.ran_alone(command, took_ns);
    cx.worker.watch.ran_alone(took_ns);
    if !command.spec().is(flag::SKIP_SLOWLOG) && command != Cmd::Auth && command != Cmd::Hello {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let client = &cx.session.client;
        cx.resp.hub.slowlog.took(command, took_us, cx.queue.now_ms() / 1000, &args, || {
            (client.addr(), client.names().name)
        });
    }
    // Modes change here and nowhere else.
    cx.session.client.mode.store(cx.session.mode, std::sync::atomic::Ordering::Relaxed);
    after
}

fn dispatch<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    command: Cmd,
    args: &[&[u8]],
    w: &mut Writer<'_, S>,
) -> After {
    let sub = if command.spec().subs.is_empty() {
        ""
    } else if args.len() == 1 {
        // COMMAND alone is a whole command; the other containers need a subcommand.
        ""
    } else {
        match with_spans(args, |args| subcommand(command, args)) {
            Ok("help") => {
                help(command, w);
                return After::Done;
            }
            Ok(sub) => sub,
            Err(refusal) => {
                cx.refuse(w, &refusal);
                return After::Done;
            }
        }
    };
    match command {
        Cmd::Ping => connection::ping(cx, args, w),
        Cmd::Hello => connection::hello(cx, args, w),
        Cmd::Auth => connection::auth(cx, args, w),
        Cmd::Select => connection::select(cx, args, w),
        Cmd::Reset => connection::reset(cx, w),
        Cmd::Client => return client::client(cx, sub, args, w),
        Cmd::Quit => {
            w.ok();
            return After::Close;
        }
        Cmd::Multi => transaction::multi(cx, w),
        Cmd::Exec => return transaction::exec(cx, w),
        Cmd::Discard => transaction::discard(cx, w),
        Cmd::Unwatch => transaction::unwatch(cx, w),
        Cmd::Subscribe | Cmd::Psubscribe | Cmd::Ssubscribe => {
            pubsub::subscribe(cx, command, args, w);
        }
        Cmd::Unsubscribe | Cmd::Punsubscribe | Cmd::Sunsubscribe => {
            pubsub::unsubscribe(cx, command, args, w);
        }
        Cmd::Publish | Cmd::Spublish => pubsub::publish(cx, command, args, w),
        Cmd::Pubsub => pubsub::introspect(cx, sub, args, w),
        Cmd::Scan => scan::scan(cx, args, w),
        Cmd::Keys => scan::keys(cx, args[1], w),
        Cmd::Randomkey => scan::random_key(cx, w),
        Cmd::Command => describe_commands(cx, sub, args, w),
        Cmd::Info => info::info(cx, args, w),
        Cmd::Config => config::config(cx, sub, args, w),
        Cmd::Cluster => cluster::run(cx, sub, args, w),
        Cmd::Asking | Cmd::Readonly | Cmd::Readwrite => cluster::mode(cx, command, w),
        Cmd::Debug => return debug(cx, args, w),
        Cmd::Shutdown => return shutdown(cx, args, w),
        _ => plain(cx, command, sub, args, w),
    }
    After::Done
}

/// Lends owned slices as arguments.
fn with_spans<T>(args: &[&[u8]], f: impl FnOnce(Args<'_, '_>) -> T) -> T {
    let bytes = args.concat();
    let mut start = 0;
    let mut spans = Vec::with_capacity(args.len());
    for arg in args {
        spans.push(Span { start, len: arg.len() as u32 });
        start += arg.len() as u32;
    }
    f(Args::new(&bytes, &spans))
}

/// HELP of a container: its subcommands, with their usage.
fn help<S: Sink + ?Sized>(command: Cmd, w: &mut Writer<'_, S>) {
    let spec = command.spec();
    let name = spec.name.to_ascii_uppercase();
    let subs: Vec<_> = spec.subs.iter().filter(|s| s.name != "help").collect();
    w.array(1 + 2 * subs.len() + 2);
    w.simple(&format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"));
    for sub in subs {
        w.simple(format!("{} {}", sub.name.to_ascii_uppercase(), sub.syntax).trim_end());
        w.simple(&format!("    {}.", sub.summary));
    }
    w.simple("HELP");
    w.simple("    Lists the subcommands.");
}

/// Commands without state of their own.
fn plain<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    command: Cmd,
    sub: &str,
    args: &[&[u8]],
    w: &mut Writer<'_, S>,
) {
    match (command, sub) {
        (Cmd::Flushall | Cmd::Flushdb, _) => flush(cx, args, w),
        (Cmd::Time, _) => {
            let now = std::time::SystemTime::now();
            let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            w.array(2);
            w.bulk(since.as_secs().to_string().as_bytes());
            w.bulk(since.subsec_micros().to_string().as_bytes());
        }
        (Cmd::Lolwut, _) => lolwut(cx, w),
        (Cmd::Role, _) => {
            w.array(3);
            w.bulk(b"master");
            w.int(0);
            w.array(0);
        }
        (Cmd::Wait, _) => {
            if parse_i64(args[1]).is_none() {
                return cx.refuse(w, &Refusal::NotAnInteger);
            }
            match parse_i64(args[2]) {
                None => cx.error(w, "ERR timeout is not an integer or out of range"),
                Some(n) if n < 0 => cx.error(w, "ERR timeout is negative"),
                Some(_) => w.int(0),
            }
        }
        (Cmd::Memory, "doctor") => w.verbatim(
            "txt",
            b"Memory is set aside at start and managed in segments; see the backend's statistics.",
        ),
        (Cmd::Memory, "purge") => w.ok(),
        (Cmd::Memory, "malloc-stats") => w.bulk(b"The store does not use the allocator."),
        (Cmd::Memory, _) => info::memory_stats(cx, w),
        (Cmd::Latency, "histogram") => info::histogram(cx, &args[2..], w),
        (Cmd::Latency, "reset") => w.int(0),
        (Cmd::Latency, _) => w.array(0),
        (Cmd::Slowlog, "len") => w.int(cx.resp.hub.slowlog.len() as i64),
        (Cmd::Slowlog, "reset") => {
            cx.resp.hub.slowlog.reset();
            w.ok();
        }
        (Cmd::Slowlog, _) => slowlog(cx, args, w),
        (Cmd::Module, _) => w.array(0),
        (Cmd::Monitor, _) => {
            cx.session.set(crate::session::mode::MONITOR, true);
            cx.resp.hub.monitor(&cx.session.client, true);
            w.ok();
        }
        (Cmd::Acl, _) => acl(cx, sub, args, w),
        _ => cx.refuse(w, &Refusal::Unsupported),
    }
}

/// Entries that SLOWLOG GET gives when it is not told.
const SLOWLOG_GET_DEFAULT: i64 = 10;

fn slowlog<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, args: &[&[u8]], w: &mut Writer<'_, S>) {
    let n = match args.get(2).map(|n| parse_i64(n)) {
        None => SLOWLOG_GET_DEFAULT,
        Some(Some(n)) if n >= -1 => n,
        Some(_) => return cx.error(w, "ERR count should be greater than or equal to -1"),
    };
    let entries = cx.resp.hub.slowlog.latest(usize::try_from(n).unwrap_or(usize::MAX));
    w.array(entries.len());
    for entry in entries {
        w.array(6);
        w.int(entry.id as i64);
        w.int(entry.at_s as i64);
        w.int(entry.took_us as i64);
        w.array(entry.args.len());
        for arg in &entry.args {
            w.bulk(arg);
        }
        w.bulk(entry.addr.as_bytes());
        w.bulk(entry.name.as_bytes());
    }
}

fn flush<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, args: &[&[u8]], w: &mut Writer<'_, S>) {
    let known = match args {
        [_] => true,
        [_, how] => how.eq_ignore_ascii_case(b"async") || how.eq_ignore_ascii_case(b"sync"),
        _ => false,
    };
    if !known {
        return cx.refuse(w, &Refusal::Syntax);
    }
    match cx.worker.service.flush(0) {
        Status::OK => w.ok(),
        status => cx.refuse(w, &super::store_refusal(status)),
    }
}

fn lolwut<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, w: &mut Writer<'_, S>) {
    let mut picture = String::new();
    for _ in 0..6 {
        let row = cx.worker.random();
        picture.extend((0..32).map(|bit| if row >> bit & 1 == 1 { '█' } else { ' ' }));
        picture.push('\n');
    }
    picture.push_str(concat!("\nCrucible ver. ", env!("CARGO_PKG_VERSION"), "\n"));
    w.verbatim("txt", picture.as_bytes());
}

fn debug<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, args: &[&[u8]], w: &mut Writer<'_, S>) -> After {
    if !cx.resp.settings.debug_commands {
        cx.error(
            w,
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", \
             you can run it from a local connection, otherwise you need to set this option in the \
             configuration file, and then restart the server.",
        );
        return After::Done;
    }
    match args[1].to_ascii_lowercase().as_slice() {
        b"sleep" if args.len() == 3 => {
            let Some(seconds) = crate::number::parse_f64(args[2]).filter(|s| *s >= 0.0) else {
                cx.refuse(w, &Refusal::NotAFloat);
                return After::Done;
            };
            let wait_ms = (seconds.min(86_400.0) * 1000.0) as u64;
            let until_ms = cx.queue.now_ms() + wait_ms;
            return connection::wait_until(cx, until_ms, Some(b"+OK\r\n"));
        }
        b"jmap" | b"set-active-expire" | b"quicklist-packed-threshold" => w.ok(),
        _ => cx.error(w, "ERR this DEBUG subcommand is not served"),
    }
    After::Done
}

fn shutdown<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, args: &[&[u8]], w: &mut Writer<'_, S>) -> After {
    let known = args[1..].iter().all(|arg| {
        [&b"nosave"[..], b"save", b"now", b"force"].iter().any(|k| arg.eq_ignore_ascii_case(k))
    });
    if !known {
        cx.refuse(w, &Refusal::Syntax);
        return After::Done;
    }
    if !cx.resp.settings.shutdown_command {
        cx.error(w, "ERR SHUTDOWN is not allowed by the settings of this listener");
        return After::Done;
    }
    cx.resp.hub.env.shutdown();
    After::Close
}

/// The users of a listener, by name; one who may do everything where there are none.
fn users(cx: &Cx<'_, '_>) -> Vec<String> {
    let listener = cx.session.client.listener.to_string();
    let mut names = Vec::new();
    cx.resp.hub.env.host_stats(&mut |name, value| {
        if name == "user"
            && let Some((of, user)) = value.split_once(' ')
            && of == listener
        {
            names.push(user.to_owned());
        }
    });
    if names.is_empty() {
        names.push(cx.session.client.names().user.clone());
    }
    names
}

/// ACL: every user may do everything, once authenticated; hashes of passwords are not shown.
fn acl<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, sub: &str, args: &[&[u8]], w: &mut Writer<'_, S>) {
    let has_users = cx.resp.needs_login(cx.session.client.listener);
    match sub {
        "whoami" => w.bulk(cx.session.client.names().user.as_bytes()),
        "users" => {
            let users = users(cx);
            w.array(users.len());
            for user in users {
                w.bulk(user.as_bytes());
            }
        }
        "list" => {
            let password = if has_users { "" } else { " nopass" };
            let users = users(cx);
            w.array(users.len());
            for user in users {
                w.bulk(format!("user {user} on{password} ~* &* +@all").as_bytes());
            }
        }
        "cat" => acl_categories(cx, args, w),
        _ if !users(cx).iter().any(|user| user.as_bytes() == args[2]) => w.null(),
        _ => {
            w.map(6);
            w.bulk(b"flags");
            w.set(if has_users { 1 } else { 2 });
            w.bulk(b"on");
            if !has_users {
                w.bulk(b"nopass");
            }
            w.bulk(b"passwords");
            w.array(0);
            for (name, value) in [("commands", "+@all"), ("keys", "~*"), ("channels", "&*")] {
                w.bulk(name.as_bytes());
                w.bulk(value.as_bytes());
            }
            w.bulk(b"selectors");
            w.array(0);
        }
    }
}

fn acl_categories<S: Sink + ?Sized>(cx: &Cx<'_, '_>, args: &[&[u8]], w: &mut Writer<'_, S>) {
    let Some(category) = args.get(2) else {
        w.array(describe::CATEGORIES.len());
        for category in describe::CATEGORIES {
            w.bulk(category.as_bytes());
        }
        return;
    };
    let name = format!("@{}", String::from_utf8_lossy(category).to_ascii_lowercase());
    if !describe::CATEGORIES.contains(&&name[1..]) {
        let category = crate::error::quote(category);
        return cx.error(w, &format!("ERR Unknown category '{category}'"));
    }
    let all = cx.resp.served().iter();
    let named: Vec<_> =
        all.filter(|c| describe::categories(**c).contains(&name.as_str())).collect();
    w.array(named.len());
    for command in named {
        w.bulk(command.spec().name.as_bytes());
    }
}

/// COMMAND and its subcommands. Only what is served here is told.
fn describe_commands<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    sub: &str,
    args: &[&[u8]],
    w: &mut Writer<'_, S>,
) {
    let served = cx.resp.served();
    let find = |name: &[u8]| {
        let (name, sub) = match name.iter().position(|b| *b == b'|') {
            Some(at) => (&name[..at], Some(&name[at + 1..])),
            None => (name, None),
        };
        let command = cx.resp.find(name).filter(|c| served.contains(c))?;
        match sub {
            None => Some((command, None)),
            Some(sub) => command.spec().sub(sub).map(|sub| (command, Some(sub))),
        }
    };
    match sub {
        "" => {
            w.array(served.len());
            for command in served {
                describe::write_info(w, *command);
            }
        }
        "count" => w.int(served.len() as i64),
        "info" if args.len() == 2 => {
            w.array(served.len());
            for command in served {
                describe::write_info(w, *command);
            }
        }
        "info" => {
            w.array(args.len() - 2);
            for name in &args[2..] {
                match find(name) {
                    None => w.null(),
                    Some((command, None)) => describe::write_info(w, command),
                    Some((command, Some(sub))) => {
                        describe::write_sub_info(w, command.spec(), sub);
                    }
                }
            }
        }
        "docs" if args.len() == 2 => {
            w.map(served.len());
            for command in served {
                describe::write_docs(w, *command);
            }
        }
        "docs" => {
            let found: Vec<_> = args[2..].iter().filter_map(|name| find(name)).collect();
            w.map(found.len());
            for (command, sub) in found {
                match sub {
                    None => describe::write_docs(w, command),
                    Some(sub) => describe::write_sub_docs(w, command.spec(), sub),
                }
            }
        }
        "list" => list_commands(cx, args, w),
        _ => keys_of(cx, sub == "getkeysandflags", args, w),
    }
}

fn list_commands<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, args: &[&[u8]], w: &mut Writer<'_, S>) {
    let all = cx.resp.served().iter().map(|c| c.spec().name);
    let names: Vec<&str> = match args {
        [_, _] => all.collect(),
        [_, _, by, kind, what] if by.eq_ignore_ascii_case(b"filterby") => {
            match kind.to_ascii_lowercase().as_slice() {
                b"module" => Vec::new(),
                b"pattern" => {
                    all.filter(|n| glob::matches_ignoring_case(what, n.as_bytes())).collect()
                }
                b"aclcat" => {
                    let name = format!("@{}", String::from_utf8_lossy(what).to_ascii_lowercase());
                    let served = cx.resp.served().iter();
                    served
                        .filter(|c| describe::categories(**c).contains(&name.as_str()))
                        .map(|c| c.spec().name)
                        .collect()
                }
                _ => return cx.refuse(w, &Refusal::Syntax),
            }
        }
        _ => return cx.refuse(w, &Refusal::Syntax),
    };
    w.array(names.len());
    for name in names {
        w.bulk(name.as_bytes());
    }
}

/// Positions of the keys in a command's arguments.
pub fn key_positions(command: Cmd, args: &[&[u8]]) -> Vec<usize> {
    let spec = command.spec();
    let number = |at: usize| {
        let n = args.get(at).and_then(|n| parse_i64(n)).unwrap_or(0);
        usize::try_from(n).unwrap_or(0).min(args.len())
    };
    // So many keys behind the number at a position.
    let counted = |at: usize| (at + 1..at + 1 + number(at)).filter(|at| *at < args.len());
    match command {
        Cmd::Msetex => {
            return (0..number(1)).map(|i| 2 + 2 * i).filter(|at| *at < args.len()).collect();
        }
        Cmd::Lmpop | Cmd::Zmpop | Cmd::Sintercard | Cmd::Zintercard => return counted(1).collect(),
        Cmd::Zunion | Cmd::Zinter | Cmd::Zdiff => return counted(1).collect(),
        Cmd::Blmpop | Cmd::Bzmpop => return counted(2).collect(),
        Cmd::Zunionstore | Cmd::Zinterstore | Cmd::Zdiffstore => {
            return std::iter::once(1).chain(counted(2)).collect();
        }
        Cmd::Sort => {
            let mut at = vec![1];
            // The last STORE counts.
            let named = args.windows(2).rposition(|pair| pair[0].eq_ignore_ascii_case(b"store"));
            at.extend(named.filter(|at| *at >= 2).map(|at| at + 1));
            return at;
        }
        Cmd::Georadius | Cmd::Georadiusbymember => {
            let named = key_specs::key_words(command).iter().filter_map(|(word, from)| {
                let names = |arg: &&[u8]| arg.eq_ignore_ascii_case(word.as_bytes());
                let at = from + args.get(*from..)?.iter().position(names)?;
                (at + 1 < args.len()).then_some(at + 1)
            });
            return std::iter::once(1).chain(named).collect();
        }
        _ => {}
    }
    let keys = match args.get(1).and_then(|name| spec.sub(name)) {
        Some(sub) => sub.keys,
        None => spec.keys,
    };
    if keys == Keys::NONE { Vec::new() } else { keys.positions(args.len()).collect() }
}

fn keys_of<S: Sink + ?Sized>(
    cx: &mut Cx<'_, '_>,
    with_flags: bool,
    args: &[&[u8]],
    w: &mut Writer<'_, S>,
) {
    let asked = &args[2..];
    let Some(command) = cx.resp.find(asked[0]) else {
        return cx.error(w, "ERR Invalid command specified");
    };
    if !crate::table::arity_fits(command.spec().arity, asked.len()) {
        return cx.error(w, "ERR Invalid number of arguments specified for command");
    }
    let positions = key_positions(command, asked);
    if positions.is_empty() {
        return cx.error(w, "ERR The command has no key arguments");
    }
    w.array(positions.len());
    for at in positions {
        if with_flags {
            w.array(2);
            w.bulk(asked[at]);
            key_specs::write_uses(w, key_specs::uses_at(command, asked, at));
        } else {
            w.bulk(asked[at]);
        }
    }
}

/// Whether a command changes the store, for CLIENT PAUSE WRITE.
pub fn writes(command: Cmd) -> bool {
    command.spec().flags & flag::WRITE != 0
        || matches!(command, Cmd::Publish | Cmd::Spublish | Cmd::Exec)
}
