//! Commands about the connection: HELLO, AUTH, SELECT, RESET, CLIENT.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crucible_plugin_api::After;

use super::Cx;
use crate::error::Refusal;
use crate::hub::clients::{Client, Names};
use crate::hub::tracking::Tracker;
use crate::hub::waiting::{WAKE_UNBLOCK, WAKE_UNBLOCK_ERROR};
use crate::number::parse_i64;
use crate::session::{Session, Tracking, mode};
use crate::table::TABLE;
use crate::write::{Sink, Version, Writer};

/// The version of Redis whose behaviour clients find.
pub const REDIS_VERSION: &str = "7.4.0";

/// Longest wait that a client may ask for, in milliseconds (a day).
const WAIT_MS_MAX: i64 = 86_400_000;

/// PING with a message, or in a RESP2 connection that listens.
pub(super) fn ping<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, args: &[&[u8]], w: &mut Writer<'_, S>) {
    if args.len() > 2 {
        return cx.refuse(w, &Refusal::Arity("ping".to_owned()));
    }
    let listens = cx.session.is(mode::SUBSCRIBED) && !w.is_resp3();
    match (listens, args.get(1)) {
        (true, message) => {
            w.array(2);
            w.bulk(b"pong");
            w.bulk(message.copied().unwrap_or(b""));
        }
        (false, Some(message)) => w.bulk(message),
        (false, None) => w.simple("PONG"),
    }
}

/// Checks a password; `Ok` names the user who has entered.
fn login(cx: &Cx<'_, '_>, user: &[u8], password: &[u8]) -> Result<String, Refusal> {
    let listener = cx.session.client.listener;
    let name = String::from_utf8_lossy(user).into_owned();
    match cx.resp.hub.env.authenticate(listener, user, password) {
        Some(true) => Ok(name),
        // Without users everybody is the default user, whatever the password.
        None if user == b"default" => Ok(name),
        Some(false) | None => Err(Refusal::WrongPass),
    }
}

fn entered(cx: &mut Cx<'_, '_>, user: String) {
    cx.session.set(mode::UNAUTHENTICATED, false);
    cx.session.client.rename(|names| names.user = user);
}

/// AUTH.
pub(super) fn auth<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, args: &[&[u8]], w: &mut Writer<'_, S>) {
    let result = match args {
        [_, password] => {
            let listener = cx.session.client.listener;
            match cx.resp.hub.env.authenticate(listener, b"default", password) {
                None => Err(Refusal::AuthWithoutPassword),
                Some(_) => login(cx, b"default", password),
            }
        }
        [_, user, password] => login(cx, user, password),
        _ => Err(Refusal::Syntax),
    };
    match result {
        Ok(user) => {
            entered(cx, user);
            w.ok();
        }
        Err(refusal) => cx.refuse(w, &refusal),
    }
}

/// Whether a name may be shown in CLIENT LIST.
fn is_plain_name(name: &[u8]) -> bool {
    name.iter().all(|b| (b'!'..=b'~').contains(b))
}

/// What HELLO was asked for.
#[derive(Default)]
struct Hello<'a> {
    version: Option<Version>,
    auth: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

fn read_hello<'a>(args: &[&'a [u8]]) -> Result<Hello<'a>, Refusal> {
    let mut hello = Hello::default();
    let Some(version) = args.get(1) else { return Ok(hello) };
    hello.version = match parse_i64(version).ok_or(Refusal::ProtoNotAnInteger)? {
        2 => Some(Version::Resp2),
        3 => Some(Version::Resp3),
        _ => return Err(Refusal::NoProto),
    };
    let mut at = 2;
    while at < args.len() {
        let left = args.len() - at - 1;
        if args[at].eq_ignore_ascii_case(b"auth") && left >= 2 {
            hello.auth = Some((args[at + 1], args[at + 2]));
            at += 3;
        } else if args[at].eq_ignore_ascii_case(b"setname") && left >= 1 {
            if !is_plain_name(args[at + 1]) {
                return Err(Refusal::ClientName);
            }
            hello.name = Some(args[at + 1]);
            at += 2;
        } else {
            let option = crate::error::quote(args[at]);
            return Err(Refusal::Text(format!("ERR Syntax error in HELLO option '{option}'")));
        }
    }
    Ok(hello)
}

/// HELLO. Answered in the version that it chooses.
pub(super) fn hello<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, args: &[&[u8]], w: &mut Writer<'_, S>) {
    let hello = match read_hello(args) {
        Ok(hello) => hello,
        Err(refusal) => return cx.refuse(w, &refusal),
    };
    if let Some((user, password)) = hello.auth {
        match login(cx, user, password) {
            Ok(user) => entered(cx, user),
            Err(refusal) => return cx.refuse(w, &refusal),
        }
    }
    if cx.session.is(mode::UNAUTHENTICATED) {
        return cx.error(
            w,
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        );
    }
    if let Some(name) = hello.name {
        let name = String::from_utf8_lossy(name).into_owned();
        cx.session.client.rename(|names| names.name = name);
    }
    if let Some(version) = hello.version {
        set_version(cx.session, version);
        w.set_version(version);
    }
    w.map(7);
    w.bulk(b"server");
    w.bulk(b"redis");
    w.bulk(b"version");
    w.bulk(REDIS_VERSION.as_bytes());
    w.bulk(b"proto");
    w.int(if cx.session.version == Version::Resp3 { 3 } else { 2 });
    w.bulk(b"id");
    w.int(cx.session.client.id as i64);
    w.bulk(b"mode");
    w.bulk(if cx.resp.cluster.is_some() { b"cluster" } else { b"standalone" });
    w.bulk(b"role");
    w.bulk(b"master");
    w.bulk(b"modules");
    w.array(0);
}

fn set_version(session: &mut Session, version: Version) {
    session.version = version;
    let number = if version == Version::Resp3 { 3 } else { 2 };
    session.client.version.store(number, Ordering::Relaxed);
}

/// SELECT: there is one database.
pub(super) fn select<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, args: &[&[u8]], w: &mut Writer<'_, S>) {
    match parse_i64(args[1]) {
        Some(0) => w.ok(),
        Some(_) => cx.refuse(w, &Refusal::DbIndex),
        None => cx.refuse(w, &Refusal::NotAnInteger),
    }
}

/// RESET.
pub(super) fn reset<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, w: &mut Writer<'_, S>) {
    super::pubsub::forget(cx);
    cx.resp.hub.tracking.end(cx.session.client.id);
    cx.resp.hub.monitor(&cx.session.client, false);
    let needs_login = cx.resp.needs_login(cx.session.client.listener);
    let cluster = cx.session.mode & mode::CLUSTER;
    cx.session.rare = None;
    cx.session.mode = cluster | if needs_login { mode::UNAUTHENTICATED } else { 0 };
    set_version(cx.session, Version::Resp2);
    w.set_version(Version::Resp2);
    cx.session.client.rename(|names| {
        names.name.clear();
        names.user = "default".to_owned();
    });
    w.simple("RESET");
}

/// Blocks until the pause is over.
pub(super) fn wait_for_pause(cx: &mut Cx<'_, '_>) -> After {
    let now_ms = cx.queue.now_ms();
    match cx.resp.hub.paused(now_ms, true) {
        None => After::Done,
        Some(until_ms) => wait_until(cx, until_ms, None),
    }
}

/// Blocks until a time, then gives the reply.
pub(super) fn wait_until(
    cx: &mut Cx<'_, '_>,
    until_ms: u64,
    reply: Option<&'static [u8]>,
) -> After {
    let rare = cx.session.rare();
    rare.wait_token = rare.wait_token.wrapping_add(1).max(1);
    rare.wait_reply = reply;
    rare.waits = true;
    let token = rare.wait_token;
    cx.worker.service.ctx().timer(cx.session.client.conn_id, until_ms, token);
    After::Wait
}

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

fn on_off(text: &[u8]) -> Result<bool, Refusal> {
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

/// A line of CLIENT LIST.
fn describe(cx: &Cx<'_, '_>, client: &Client) -> String {
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

fn list<S: Sink + ?Sized>(
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

fn kill<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, args: &[&[u8]], w: &mut Writer<'_, S>) -> After {
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

fn tracking<S: Sink + ?Sized>(
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

fn tracking_info<S: Sink + ?Sized>(cx: &mut Cx<'_, '_>, w: &mut Writer<'_, S>) {
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

fn caching<S: Sink + ?Sized>(
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
