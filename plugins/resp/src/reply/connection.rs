//! Commands about the connection: HELLO, AUTH, SELECT, RESET, PING; and how it waits.

use std::sync::atomic::Ordering;

use crucible_plugin_api::After;

use super::Cx;
use crate::error::Refusal;
use crate::number::parse_i64;
use crate::session::{Session, mode};
use crate::write::{Sink, Version, Writer};

/// The version of Redis whose behaviour clients find.
pub const REDIS_VERSION: &str = "7.4.0";

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
pub(super) fn is_plain_name(name: &[u8]) -> bool {
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
