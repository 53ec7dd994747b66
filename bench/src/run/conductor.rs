//! The conductor: starts the workers, gives them their tasks, and gathers what they tell.
//!
//! Always true: a task that ends early is marked, and what was counted is kept. Called by `main` and the search.

mod error;
mod gather;
mod interval;

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kompio::{Config, Handle, KompioBuilder, Server, Shutdown};

use super::route::Router;
use super::shared::{Roster, Shared, SharedRef, Task, Told};
use super::tls::TlsSettings;
use super::verdict::Step;
use super::worker::Worker;
use super::{cluster, feed};
use crate::config::choices::{Protocol, Timestamps, Verify};
use crate::config::plan::Plan;
use crate::rng::mix64;
use crate::wire::{
    Codec, memcache_binary::McBinary, memcache_meta::McMeta, memcache_text::McText,
    momento::Momento, momento_grpc::MomentoGrpc, ping::Ping, resp::Resp,
};
use crate::workload::content::Pool;
use crate::workload::ledger::Ledger;
pub use error::RunError;
use gather::Gather;
pub use interval::{Interval, Observer, Phase};

/// How long a prefill may make no progress before it is given up, beside request timeouts.
const PREFILL_STALL_TIMEOUTS: u32 = 3;
/// Room between giving a task and its first request.
const LEAD_NS: u64 = 2_000_000;
/// How long workers may take to end a task beyond its drain.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// Names of a plan's commands in the order of the samples, and the places of those that read keys.
#[must_use]
pub fn roster(plan: &Plan) -> (Vec<String>, Vec<usize>) {
    let roster = Roster::new(plan);
    let names = roster.verbs.iter().map(|verb| plan.mix.name(*verb).to_owned()).collect();
    (names, roster.reads())
}

/// A started run.
pub struct Conductor {
    shared: SharedRef,
    handle: Handle,
    server: Option<Server>,
    told: Receiver<(usize, Told)>,
    stop: Arc<AtomicBool>,
    steps: u32,
}

fn launch<C: Codec>(config: Config, shared: &SharedRef) -> Result<Server, RunError> {
    let shared = shared.clone();
    KompioBuilder::new(config)
        .launch(move |info| Worker::<C>::new(shared.clone(), info.id))
        .map_err(|error| RunError::Start(error.to_string()))
}

fn kompio_config(plan: &Plan) -> Result<Config, RunError> {
    let mut config = Config::default();
    config.workers = plan.threads;
    config.name = "bench".into();
    config.max_connections = config.max_connections.max(2 * plan.connections);
    if !plan.cpus.is_empty() {
        let list: Vec<String> = plan.cpus.iter().map(usize::to_string).collect();
        let cpus = list.join(",").parse().map_err(|e| RunError::Start(format!("{e}")))?;
        config.cpus = Some(cpus);
    }
    if plan.timestamps == Timestamps::Kernel {
        // A stamped receive begins with a header, for which there must be room in every buffer.
        config.incremental_buffers = false;
    }
    // A client never stops reading because it has much to send: a server that waits for its replies to
    // be read would wait for ever.
    config.output_high_water_bytes = 1 << 40;
    config.output_low_water_bytes = 1 << 39;
    config.output_hard_limit_bytes = 1 << 41;
    Ok(config)
}

impl Conductor {
    /// Connects to the servers and waits until every connection carries requests. `stop` ends everything
    /// early once it is set.
    ///
    /// # Errors
    /// See [`RunError`].
    pub fn start(
        mut plan: Plan,
        stop: Arc<AtomicBool>,
        observer: &mut dyn Observer,
    ) -> Result<Self, RunError> {
        for endpoint in &plan.endpoints {
            TcpStream::connect_timeout(&endpoint.address, plan.connect_timeout).map_err(
                |error| RunError::Unreachable { endpoint: endpoint.name.clone(), error },
            )?;
        }
        let tls = plan
            .tls
            .as_ref()
            .map(|tls| TlsSettings::new(tls, plan.protocol == Protocol::MomentoGrpc))
            .transpose()?;
        let router = if plan.cluster {
            let (nodes, owners) =
                cluster::discover(&plan, tls.as_ref()).map_err(RunError::Cluster)?;
            plan.endpoints = nodes;
            // Each thread needs a connection to each node.
            plan.connections = plan.connections.max(plan.threads * plan.endpoints.len());
            Router::cluster(owners)
        } else if plan.endpoints.len() > 1 {
            Router::ketama(plan.endpoints.iter().map(|e| e.name.as_str()))
        } else {
            Router::Single
        };
        let feeds = match &plan.trace {
            Some(trace) => feed::start(trace, plan.threads)?.into_iter().map(Some).collect(),
            None => Vec::new(),
        };
        let (sender, told) = channel();
        let started =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
        let shared = Arc::new(Shared {
            roster: Roster::new(&plan),
            router,
            tls,
            pool: Pool::shared(),
            ledger: (plan.verify == Verify::Full).then(|| Ledger::new(plan.key_count)),
            run: mix64(started ^ u64::from(std::process::id()) << 40) as u32,
            epoch: Instant::now(),
            task: Mutex::new((0, Task::Halt)),
            told: Mutex::new(sender),
            confirmed: AtomicU64::new(0),
            feeds: Mutex::new(feeds),
            plan,
        });
        let config = kompio_config(&shared.plan)?;
        let server = match shared.plan.protocol {
            Protocol::Resp => launch::<Resp<false>>(config, &shared),
            Protocol::Resp3 => launch::<Resp<true>>(config, &shared),
            Protocol::McText => launch::<McText>(config, &shared),
            Protocol::McMeta => launch::<McMeta>(config, &shared),
            Protocol::McBinary => launch::<McBinary>(config, &shared),
            Protocol::Momento => launch::<Momento>(config, &shared),
            Protocol::MomentoGrpc => launch::<MomentoGrpc>(config, &shared),
            Protocol::Ping => launch::<Ping>(config, &shared),
        }?;
        let handle = server.handle();
        let mut conductor = Self { shared, handle, server: Some(server), told, stop, steps: 0 };
        conductor.wait_ready(observer)?;
        Ok(conductor)
    }

    /// The plan as it is carried out.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.shared.plan
    }

    fn wait_ready(&mut self, observer: &mut dyn Observer) -> Result<(), RunError> {
        let plan = &self.shared.plan;
        let patience = plan.connect_timeout + plan.request_timeout;
        let deadline = Instant::now() + patience;
        let mut last = format!("no word from {}", plan.endpoints[0].name);
        let mut missing = plan.threads;
        while missing > 0 {
            if self.stop.load(Ordering::Relaxed) {
                return Err(RunError::Interrupted);
            }
            match self.hear(deadline.min(Instant::now() + Duration::from_millis(100)))? {
                Some((_, Told::Ready)) => missing -= 1,
                Some((_, Told::Trouble(text))) => {
                    observer.trouble(&text);
                    last = text;
                }
                Some((_, Told::Abandoned(text))) => last = text,
                Some(_) => {}
                None if Instant::now() >= deadline => {
                    return Err(RunError::NotReady { waited: patience, last });
                }
                None => {}
            }
        }
        Ok(())
    }

    /// The next word of a worker, or nothing by the deadline.
    fn hear(&self, deadline: Instant) -> Result<Option<(usize, Told)>, RunError> {
        match self.told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(told) => Ok(Some(told)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(RunError::WorkerGone),
        }
    }

    fn give(&self, task: Task) {
        let mut slot = self.shared.task.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *slot = (slot.0 + 1, task);
        let number = slot.0;
        drop(slot);
        for worker in 0..self.shared.plan.threads {
            self.handle.notify(worker, number);
        }
    }

    /// Stores every key, confirmed by replies.
    ///
    /// # Errors
    /// When a key is refused or the server stands still.
    pub fn prefill(&mut self, observer: &mut dyn Observer) -> Result<(), RunError> {
        let plan = &self.shared.plan;
        let total = plan.key_count;
        let patience = plan.request_timeout * PREFILL_STALL_TIMEOUTS + plan.connect_timeout;
        let begun = Instant::now();
        self.shared.confirmed.store(0, Ordering::Relaxed);
        self.give(Task::Prefill);
        let mut missing = plan.threads;
        let (mut seen, mut moved) = (0, begun);
        let mut why = String::new();
        while missing > 0 {
            let heard = self.hear(Instant::now() + Duration::from_millis(100))?;
            let confirmed = self.shared.confirmed.load(Ordering::Relaxed);
            observer.prefill(confirmed, total, begun.elapsed());
            if confirmed > seen {
                (seen, moved) = (confirmed, Instant::now());
            }
            match heard {
                Some((_, Told::Done { sample })) => {
                    missing -= 1;
                    if let Some((words, n)) = sample.error_words.iter().next() {
                        why = format!("{n} were refused: {words}");
                    }
                }
                Some((_, Told::Trouble(text))) => {
                    observer.trouble(&text);
                    why = text;
                }
                Some((_, Told::Abandoned(text))) => {
                    return Err(RunError::Prefill { confirmed, total, why: text });
                }
                _ => {}
            }
            if self.stop.load(Ordering::Relaxed) {
                return Err(RunError::Interrupted);
            }
            if moved.elapsed() > patience {
                let standing = format!("the server has stood still for {patience:?}");
                let why =
                    if why.is_empty() { standing } else { format!("{standing}; last: {why}") };
                return Err(RunError::Prefill { confirmed, total, why });
            }
        }
        let confirmed = self.shared.confirmed.load(Ordering::Relaxed);
        observer.prefill(confirmed, total, begun.elapsed());
        if confirmed < total {
            return Err(RunError::Prefill { confirmed, total, why });
        }
        Ok(())
    }

    /// Drives the servers: `warmup` uncounted, then `duration` counted.
    ///
    /// # Errors
    /// When a worker is gone. A server that fails ends the step early and marks it.
    pub fn drive(
        &mut self,
        rate: Option<u64>,
        warmup: Duration,
        duration: Duration,
        observer: &mut dyn Observer,
    ) -> Result<Step, RunError> {
        let start_ns = self.shared.now_ns() + LEAD_NS;
        let measure_ns = start_ns + warmup.as_nanos() as u64;
        let end_ns = measure_ns + duration.as_nanos() as u64;
        let mut gather = Gather::new(self, rate, start_ns, measure_ns, end_ns);
        self.steps += 1;
        self.give(Task::Drive { rate, start_ns, measure_ns, end_ns });
        let drain = self.shared.plan.request_timeout + END_PATIENCE;
        let mut deadline = self.shared.epoch + Duration::from_nanos(end_ns) + drain;
        let mut halted = false;
        while gather.missing > 0 {
            let heard = self.hear(deadline.min(Instant::now() + Duration::from_millis(50)))?;
            let now_ns = self.shared.now_ns();
            gather.clock(now_ns);
            let mut halt = None;
            match heard {
                Some((worker, Told::Interval { number, sample })) => {
                    gather.interval(worker, number, *sample, observer)
                }
                Some((worker, Told::Done { sample })) => gather.done(worker, *sample, now_ns),
                Some((_, Told::Trouble(text))) => observer.trouble(&text),
                Some((_, Told::Abandoned(text))) => halt = Some(text),
                Some((_, Told::Ready)) => {}
                None if Instant::now() >= deadline => {
                    gather.partial = Some("a worker did not end its task".into());
                    break;
                }
                None => {}
            }
            if self.stop.load(Ordering::Relaxed) && !halted {
                halt = Some("interrupted".into());
            }
            if let Some(why) = halt
                && !halted
            {
                halted = true;
                gather.partial = Some(why);
                gather.ended_ns = now_ns.min(end_ns);
                self.give(Task::Halt);
                deadline = Instant::now() + drain;
            }
        }
        let mut step = gather.finish(observer);
        step.judge(self.shared.plan.slip_limit, self.shared.plan.threads);
        observer.step(&step);
        Ok(step)
    }

    /// Closes all connections and ends the workers.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(server) = self.server.take() {
            self.handle.shutdown(Shutdown::Now);
            let _ = server.join();
        }
    }
}

impl Drop for Conductor {
    fn drop(&mut self) {
        self.end();
    }
}
