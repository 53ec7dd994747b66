//! The admin server: health, metrics, plugins, configuration, reload.
//!
//! One thread of its own, with a worker state of each store so that it can ask
//! for statistics. What must always be true: nothing here is on the way of a
//! request to the cache; with a token, everything but `/health` and `/ready`
//! needs it; passwords are never shown. Called by `start`.

mod history;
mod inspect;
mod metrics;
mod page;
mod reports;
mod routes;

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;

use crate::config::value::Address;
use crate::plan::Plan;
use crate::worker::Crew;
use crate::worker::sides::StoreSide;

/// Requests that are served at the same time at most.
const CONNECTIONS_MAX: usize = 64;
/// A connection that is silent for so long is closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest life of a connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);

/// What requests are answered from.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) crew: Arc<Crew>,
    pub(crate) plan: Plan,
    pub(crate) stores: RefCell<Vec<StoreSide>>,
    pub(crate) history: history::History,
}

/// The running admin server.
#[derive(Debug)]
pub struct Admin {
    stop: Arc<Notify>,
    thread: std::thread::JoinHandle<()>,
}

impl Admin {
    /// Opens the address and starts the thread.
    ///
    /// # Errors
    /// A sentence.
    pub fn start(
        plan: &Plan,
        crew: &Arc<Crew>,
        address: &Address,
        given: Option<OwnedFd>,
    ) -> Result<Self, String> {
        let listener = match given {
            Some(fd) => Listener::given(address, fd)?,
            None => Listener::bind(address)?,
        };
        if let Ok(copy) = listener.copy() {
            let _first = crew.core.admin_socket.set(copy);
        }
        let stop = Arc::new(Notify::new());
        let (tell, told) = mpsc::channel();
        let (plan, crew, stopped) = (plan.clone(), crew.clone(), stop.clone());
        let body = move || run(plan, crew, listener, &stopped, &tell);
        let thread = std::thread::Builder::new()
            .name("admin".into())
            .spawn(body)
            .map_err(|e| format!("cannot start its thread: {e}"))?;
        match told.recv() {
            Ok(Ok(at)) => tracing::info!(address = at, "the admin server listens"),
            Ok(Err(reason)) => return Err(reason),
            Err(_) => return Err("its thread ended".into()),
        }
        Ok(Self { stop, thread })
    }

    /// Ends it, so that the stores can be destroyed.
    pub fn stop(self) {
        self.stop.notify_one();
        if self.thread.join().is_err() {
            tracing::error!("the admin thread panicked");
        }
    }
}

enum Listener {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

impl Listener {
    /// A socket that another process opened.
    fn given(address: &Address, fd: OwnedFd) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("cannot take {address} over: {e}");
        match address {
            Address::Tcp(_) => {
                let listener = std::net::TcpListener::from(fd);
                listener.set_nonblocking(true).map_err(failed)?;
                Ok(Self::Tcp(listener))
            }
            Address::Unix(_) => {
                let listener = std::os::unix::net::UnixListener::from(fd);
                listener.set_nonblocking(true).map_err(failed)?;
                Ok(Self::Unix(listener))
            }
        }
    }

    fn copy(&self) -> std::io::Result<OwnedFd> {
        match self {
            Self::Tcp(listener) => listener.as_fd().try_clone_to_owned(),
            Self::Unix(listener) => listener.as_fd().try_clone_to_owned(),
        }
    }

    fn bind(address: &Address) -> Result<Self, String> {
        let named = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::AddrInUse => {
                format!(
                    "{address} is in use: stop the process that listens there, or choose another address"
                )
            }
            _ => format!("cannot listen on {address}: {e}"),
        };
        match address {
            Address::Tcp(tcp) => {
                let listener = std::net::TcpListener::bind(tcp).map_err(named)?;
                listener.set_nonblocking(true).map_err(named)?;
                Ok(Self::Tcp(listener))
            }
            Address::Unix(path) => {
                if std::os::unix::net::UnixStream::connect(path).is_err() {
                    // A socket file that nobody serves.
                    let _absent_is_fine = std::fs::remove_file(path);
                }
                let listener = std::os::unix::net::UnixListener::bind(path).map_err(named)?;
                listener.set_nonblocking(true).map_err(named)?;
                Ok(Self::Unix(listener))
            }
        }
    }
}

type Told = mpsc::Sender<Result<String, String>>;

fn run(plan: Plan, crew: Arc<Crew>, listener: Listener, stop: &Notify, tell: &Told) {
    let fail = |reason: String| {
        // The starter waits for exactly one answer.
        let _starter_is_gone = tell.send(Err(reason));
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(format!("cannot start its runtime: {error}")),
    };
    let service_id = crew.core.workers;
    let mut stores = Vec::new();
    for (index, store) in crew.stores.iter().enumerate() {
        match StoreSide::make(&crew.core, service_id, index, store) {
            Ok(side) => stores.push(side),
            Err(reason) => return fail(reason),
        }
    }
    let state = Rc::new(State {
        crew,
        plan,
        stores: RefCell::new(stores),
        history: history::History::default(),
    });
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let opened = match listener {
            Listener::Tcp(std) => {
                let at = std.local_addr().map(|a| a.to_string()).unwrap_or_default();
                tokio::net::TcpListener::from_std(std).map(|l| (at, Open::Tcp(l)))
            }
            Listener::Unix(std) => {
                let at = std
                    .local_addr()
                    .ok()
                    .and_then(|a| Some(format!("unix:{}", a.as_pathname()?.display())))
                    .unwrap_or_default();
                tokio::net::UnixListener::from_std(std).map(|l| (at, Open::Unix(l)))
            }
        };
        match opened {
            Ok((at, open)) => {
                let _starter_is_gone = tell.send(Ok(at));
                let accepting = tokio::task::spawn_local(accept(open, state.clone()));
                let looking = tokio::task::spawn_local(history::keep(state.clone()));
                stop.notified().await;
                accepting.abort();
                looking.abort();
            }
            Err(error) => fail(format!("cannot listen: {error}")),
        }
    });
    drop(local);
    for side in state.stores.borrow_mut().iter_mut() {
        side.finish();
    }
}

enum Open {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

async fn accept(open: Open, state: Rc<State>) {
    let places = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let state = state.clone();
        let accepted = match &open {
            Open::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::task::spawn_local(greet(stream, state, place));
            }),
            Open::Unix(listener) => listener.accept().await.map(|(stream, _)| {
                tokio::task::spawn_local(greet(stream, state, place));
            }),
        };
        if let Err(error) = accepted {
            tracing::warn!(%error, "the admin server cannot accept");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Encrypts the connection where the admin server is configured so.
async fn greet<S>(stream: S, state: Rc<State>, place: tokio::sync::OwnedSemaphorePermit)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let Some(tls) = &state.crew.core.admin_tls else {
        return serve(TokioIo::new(stream), state, place).await;
    };
    let limit = Duration::from_millis(tls.handshake_ms.load(Ordering::Relaxed).into());
    let under_way = tls.greeting.fetch_add(1, Ordering::Relaxed);
    let handshake = async {
        if under_way >= tls.greeting_max.load(Ordering::Relaxed) {
            return Err(std::io::Error::other("too many handshakes are under way"));
        }
        tokio_rustls::TlsAcceptor::from(tls.config()).accept(stream).await
    };
    let done = tokio::time::timeout(limit, handshake).await;
    tls.greeting.fetch_sub(1, Ordering::Relaxed);
    match done {
        Ok(Ok(stream)) => serve(TokioIo::new(stream), state, place).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake with the admin server failed"),
        Err(_) => tracing::debug!("a TLS handshake with the admin server took too long"),
    }
}

async fn serve<I>(io: I, state: Rc<State>, place: tokio::sync::OwnedSemaphorePermit)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    let service = service_fn(|request| {
        let state = state.clone();
        async move { Ok::<_, std::convert::Infallible>(routes::answer(&state, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(hyper_util::rt::TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(64 * 1024)
        .serve_connection(io, service);
    let _peer_may_have_gone = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
    drop(place);
}
