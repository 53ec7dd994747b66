//! Listening sockets that outlive a process: taken over from the one before, or
//! given by the service manager.
//!
//! ```text
//!  new ── "takeover 1" ──► old      new                     old
//!  new ◄─ addresses, sockets ─      makes stores, serves    serves
//!  new ── "drain" ───────► old      serves                  accepts no more,
//!      ◄─ end of stream ── exit                             grace, drain, exit
//! ```
//! With a store that persists the new process says "drain" first and makes its
//! stores after the end of the stream: connections wait in the sockets' queues.
//! What must always be true: from the hand-over on some process holds each
//! socket, so that no connection is refused; a new process that dies before
//! "drain" changes nothing. Called by `run` and `start`.

mod descriptors;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::value::Address;
use crate::plan::Plan;
use crate::services::Core;

/// First words of a new process.
const HELLO: &str = "takeover 1\n";

/// The word that ends the old process.
const DRAIN: &str = "drain\n";

/// Longest wait for a word of the other process.
const WORD_LIMIT: Duration = Duration::from_secs(10);

/// Beyond the drain's own limit.
const END_MARGIN: Duration = Duration::from_secs(10);

/// Name of the admin server's socket among the others.
const ADMIN: &str = "admin";

/// Why nothing was taken over.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// No place to meet.
    #[error("--takeover needs takeover.socket, the same in both processes")]
    NoSocket,
    /// The old process does not answer as it should.
    #[error("taking over through {}: {reason}", path.display())]
    Talk {
        /// The socket.
        path: PathBuf,
        /// What happened.
        reason: String,
    },
    /// A socket that no listener of the configuration has.
    #[error(
        "the service manager passed a socket for {address}, which no listener of the configuration has"
    )]
    Stray {
        /// Where it listens.
        address: String,
    },
}

/// A socket by the address that its listener was configured with.
#[derive(Debug, Serialize, Deserialize)]
struct Named {
    name: String,
    descriptors: usize,
}

/// What the old process says with its sockets.
#[derive(Debug, Serialize, Deserialize)]
struct Offer {
    pid: u32,
    drain_ms: u64,
    sockets: Vec<Named>,
}

/// Sockets for the listeners of this process.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(String, Vec<OwnedFd>)>,
    /// The process that had them, until it was told to end.
    pub predecessor: Option<Predecessor>,
    /// This process follows another.
    pub took_over: bool,
}

/// The process before, until it has ended.
#[derive(Debug)]
pub struct Predecessor {
    stream: UnixStream,
    pid: u32,
    drain_limit: Duration,
    draining: bool,
}

impl Inherited {
    /// Takes what there is to be had: from the process that serves now when
    /// `takeover` is asked for, and from the service manager.
    ///
    /// # Errors
    /// When the other side does not do its part.
    pub fn take(plan: &Plan, takeover: bool) -> Result<Self, TakeoverError> {
        let mut inherited = Self::default();
        if takeover {
            let path = plan.settings.takeover.socket.as_deref().ok_or(TakeoverError::NoSocket)?;
            inherited = Self::from_process(path)?;
        }
        inherited.add_activated(plan)?;
        Ok(inherited)
    }

    fn from_process(path: &Path) -> Result<Self, TakeoverError> {
        let failed = |reason: String| TakeoverError::Talk { path: path.to_owned(), reason };
        let said = |error: std::io::Error| failed(error.to_string());
        let mut stream = match UnixStream::connect(path) {
            Ok(stream) => stream,
            Err(error) => {
                use std::io::ErrorKind::{ConnectionRefused, NotFound};
                if !matches!(error.kind(), ConnectionRefused | NotFound) {
                    return Err(said(error));
                }
                tracing::info!(socket = %path.display(), "nobody serves yet: nothing to take over");
                return Ok(Self::default());
            }
        };
        stream.set_read_timeout(Some(WORD_LIMIT)).map_err(said)?;
        stream.write_all(HELLO.as_bytes()).map_err(said)?;
        let (text, fds) = descriptors::receive(&stream).map_err(said)?;
        if text.is_empty() {
            return Err(failed("the other process hung up; it hands over once".into()));
        }
        let offer: Offer = serde_json::from_slice(&text)
            .map_err(|e| failed(format!("the other process speaks another language: {e}")))?;
        let mut fds = fds.into_iter();
        let mut sockets = Vec::new();
        for named in offer.sockets {
            let own: Vec<_> = fds.by_ref().take(named.descriptors).collect();
            if own.len() != named.descriptors || own.is_empty() {
                return Err(failed(format!("the socket of {} did not arrive", named.name)));
            }
            sockets.push((named.name, own));
        }
        tracing::info!(pid = offer.pid, sockets = sockets.len(), "took the listeners over");
        let drain_limit = Duration::from_millis(offer.drain_ms);
        let predecessor = Predecessor { stream, pid: offer.pid, drain_limit, draining: false };
        Ok(Self { sockets, predecessor: Some(predecessor), took_over: true })
    }

    /// `LISTEN_FDS`: sockets that the service manager opened.
    fn add_activated(&mut self, plan: &Plan) -> Result<(), TakeoverError> {
        let number =
            |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
        let (pid, count) = (number("LISTEN_PID"), number("LISTEN_FDS"));
        let Some(count) = count.filter(|_| pid == Some(std::process::id())) else { return Ok(()) };
        for fd in descriptors::activated(count as usize) {
            let address = address_of(&fd).unwrap_or_else(|| "an unknown address".into());
            let names = plan.listeners.iter().map(|l| l.address.to_string());
            let admin = plan.admin.iter().map(Address::to_string).map(|a| (a, ADMIN.to_owned()));
            let found = names.map(|n| (n.clone(), n)).chain(admin).find(|(at, _)| *at == address);
            let Some((_, name)) = found else { return Err(TakeoverError::Stray { address }) };
            tracing::info!(address, "a socket of the service manager");
            self.sockets.push((name, vec![fd]));
        }
        Ok(())
    }

    /// The sockets of a listener; none when it opens its own.
    pub fn listener(&mut self, address: &Address) -> Option<Vec<OwnedFd>> {
        let name = address.to_string();
        let at = self.sockets.iter().position(|(known, _)| *known == name)?;
        Some(self.sockets.remove(at).1)
    }

    /// The admin server's socket.
    pub fn admin(&mut self) -> Option<OwnedFd> {
        let at = self.sockets.iter().position(|(known, _)| known == ADMIN)?;
        self.sockets.remove(at).1.pop()
    }

    /// Lets go of what no listener wanted.
    pub fn drop_rest(&mut self) {
        for (name, _) in self.sockets.drain(..) {
            tracing::warn!(
                address = name,
                "no listener has this address any more; its socket is closed"
            );
        }
    }
}

/// Where a socket listens, as a configuration writes it.
fn address_of(fd: &OwnedFd) -> Option<String> {
    let copy = fd.try_clone().ok()?;
    let tcp = std::net::TcpListener::from(copy);
    if let Ok(address) = tcp.local_addr() {
        return Some(address.to_string());
    }
    let unix = UnixListener::from(fd.try_clone().ok()?);
    let address = unix.local_addr().ok()?;
    Some(Address::Unix(address.as_pathname()?.to_owned()).to_string())
}

impl Predecessor {
    /// Tells it to accept no more and to drain.
    pub fn drain(&mut self) {
        if std::mem::replace(&mut self.draining, true) {
            return;
        }
        if let Err(error) = self.stream.write_all(DRAIN.as_bytes()) {
            tracing::warn!(%error, pid = self.pid, "the process before is gone already");
        }
    }

    /// Drains it and waits for its end, for what it keeps until then.
    ///
    /// # Errors
    /// When it does not end.
    pub fn end(mut self) -> Result<(), TakeoverError> {
        self.drain();
        let limit = self.drain_limit + END_MARGIN;
        let waited = self.stream.set_read_timeout(Some(limit)).and_then(|()| {
            let mut nothing = Vec::new();
            self.stream.read_to_end(&mut nothing)
        });
        match waited {
            Ok(_) => Ok(()),
            Err(error) => Err(TakeoverError::Talk {
                path: PathBuf::from(format!("process {}", self.pid)),
                reason: format!("it did not end within {limit:?} ({error})"),
            }),
        }
    }
}

/// Offers this process's listeners to the next one.
///
/// # Errors
/// When the socket cannot be opened.
pub fn offer(core: &Arc<Core>, plan: &Plan) -> std::io::Result<()> {
    let Some(path) = plan.settings.takeover.socket.clone() else { return Ok(()) };
    // The process before has this name; it does not need it any more.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    let (core, grace) = (core.clone(), plan.settings.takeover.grace);
    let names = plan.listeners.iter().map(|l| l.address.to_string()).collect::<Vec<_>>();
    std::thread::Builder::new().name("takeover".into()).spawn(move || {
        for stream in listener.incoming() {
            match stream.and_then(|stream| hand_over(&core, &names, grace, stream)) {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the listeners were not handed over"),
            }
        }
    })?;
    Ok(())
}

/// One new process; true when it has the listeners and this one drains.
fn hand_over(
    core: &Core,
    names: &[String],
    grace: Duration,
    stream: UnixStream,
) -> std::io::Result<bool> {
    let (pid, user) = descriptors::peer(&stream)?;
    if user != descriptors::own_user() && user != 0 {
        tracing::warn!(pid, user, "another user's process asked for the listeners");
        return Ok(false);
    }
    stream.set_read_timeout(Some(WORD_LIMIT))?;
    let mut words = BufReader::new(stream.try_clone()?).take(1024);
    let mut word = String::new();
    words.read_line(&mut word)?;
    if word != HELLO {
        tracing::warn!(pid, word, "not a process that takes over");
        return Ok(false);
    }
    let Some(handle) = core.handle.get() else { return Ok(false) };
    let mut open = handle.copy_listeners()?;
    open.sort_by_key(|(listener, _)| *listener);
    let mut sockets: Vec<Named> = Vec::new();
    let mut last = None;
    for (listener, _) in &open {
        if last == Some(*listener) {
            sockets.last_mut().expect("it was just pushed").descriptors += 1;
        } else {
            sockets.push(Named { name: names[*listener].clone(), descriptors: 1 });
        }
        last = Some(*listener);
    }
    let mut fds: Vec<_> = open.iter().map(|(_, fd)| fd.as_fd()).collect();
    if let Some(admin) = core.admin_socket.get() {
        sockets.push(Named { name: ADMIN.into(), descriptors: 1 });
        fds.push(admin.as_fd());
    }
    let drain_ms = u64::try_from((core.drain_timeout + grace).as_millis()).unwrap_or(u64::MAX);
    let offer = Offer { pid: std::process::id(), drain_ms, sockets };
    let text = serde_json::to_vec(&offer).map_err(std::io::Error::other)?;
    descriptors::send(&stream, &text, &fds)?;
    drop(open);
    tracing::info!(pid, "the listeners are with another process, too; waiting for its word");
    // It may take long to start; it may also fail to.
    stream.set_read_timeout(None)?;
    let mut word = String::new();
    words.read_line(&mut word)?;
    if word != DRAIN {
        tracing::warn!(pid, "the other process went away; serving on");
        return Ok(false);
    }
    tracing::info!(pid, grace = ?grace, "another process serves: accepting no more, then draining");
    crate::start::notify_manager(&format!("MAINPID={pid}"));
    core.leaving.store(true, Ordering::Relaxed);
    handle.stop_accepting();
    // Whoever was accepted a moment ago gets its first request answered.
    std::thread::sleep(grace);
    core.shut_down();
    // The end of the stream is the end of this process.
    std::mem::forget(stream);
    Ok(true)
}
