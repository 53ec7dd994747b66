//! New builds of protocols while serving.
//!
//! ```text
//!  file changed? ─► loaded from a copy ─► instance made with its old settings
//!     ─► Prepare: every worker makes its side ─┬─ all did ─► Serve
//!                                              └─ one did not ─► GiveBack
//! ```
//! What must always be true: new connections of a listener get the new build on
//! every worker or on none; a connection ends with the build it began with; a
//! mapping is never unloaded, so there are [`LOADS_MAX`] of them at most. Called
//! on SIGHUP and by `POST /plugins/reload`.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::config::Plugins;
use crate::instances::ProtocolInstance;
use crate::loader::{Loaded, Loader, Origin, Stamp};
use crate::services::{Mail, lock};
use crate::worker::Crew;

/// Builds that are mapped by swaps in the life of a process.
pub const LOADS_MAX: usize = 32;

/// Longest wait for the workers: one that is stuck in a plugin does not answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Longest wait for a new build to start: the old one serves meanwhile, and goes on if it does not.
const START_LIMIT: Duration = Duration::from_secs(10);

/// What swaps need to know, and how many there were.
#[derive(Debug)]
pub struct Swaps {
    plugins: Plugins,
    loads: usize,
}

impl Swaps {
    /// Before the first.
    #[must_use]
    pub fn new(plugins: &Plugins) -> Self {
        Self { plugins: plugins.clone(), loads: 0 }
    }
}

/// What a worker does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Make the new protocol's side.
    Prepare,
    /// Use it for new connections.
    Serve,
    /// Give it back.
    GiveBack,
}

/// One swap, as the workers see it.
#[derive(Debug)]
pub struct Swap {
    /// The new instance.
    pub instance: Arc<ProtocolInstance>,
    /// Listeners that get it.
    pub listeners: Vec<usize>,
    state: Mutex<(Step, Vec<Result<(), String>>)>,
    answered: Condvar,
}

impl Swap {
    /// What to do now.
    pub fn step(&self) -> Step {
        lock(&self.state).0
    }

    /// A worker did it, or could not.
    pub fn answer(&self, result: Result<(), String>) {
        lock(&self.state).1.push(result);
        self.answered.notify_all();
    }

    /// Lets every worker take a step.
    fn run(self: &Arc<Self>, crew: &Crew, step: Step) -> Result<(), String> {
        *lock(&self.state) = (step, Vec::new());
        for worker in 0..crew.core.workers {
            if !crew.core.post(worker, Mail::Swap(self.clone())) {
                return Err("the server is not serving".into());
            }
        }
        let until = Instant::now() + ANSWER_LIMIT;
        let mut state = lock(&self.state);
        while state.1.len() < crew.core.workers {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(format!("a worker did not answer within {ANSWER_LIMIT:?}"));
            }
            let waited = self.answered.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.1.iter().find_map(|answer| answer.clone().err()).map_or(Ok(()), Err)
    }
}

/// What was swapped.
#[derive(Clone, Debug)]
pub struct Swapped {
    /// The plugin.
    pub plugin: String,
    /// Version before.
    pub from: String,
    /// Version now.
    pub to: String,
    /// Listeners that have it.
    pub listeners: Vec<String>,
}

/// Swaps on SIGHUP: the log says how it went.
pub fn from_signal(crew: &Arc<Crew>) {
    if let Err(reason) = now(crew) {
        tracing::error!("plugins not reloaded: {reason}");
    }
}

/// Swaps every protocol whose file is another one than it was.
///
/// # Errors
/// The first that could not be swapped; those before it stay swapped.
pub fn now(crew: &Arc<Crew>) -> Result<Vec<Swapped>, String> {
    let mut swaps = lock(&crew.swaps);
    let serving = crew.serving();
    let mut used: Vec<usize> = serving.by_listener.clone();
    used.sort_unstable();
    used.dedup();
    let mut done = Vec::new();
    for at in used {
        let old = &serving.protocols[at];
        let loader = Loader::new(&swaps.plugins);
        let Some(path) = changed(old, &loader)? else { continue };
        if swaps.loads == LOADS_MAX {
            return Err(format!(
                "{} builds were loaded by reloads, and a mapping is never unloaded; restart to load another",
                LOADS_MAX
            ));
        }
        swaps.loads += 1;
        let listeners: Vec<usize> =
            (0..serving.by_listener.len()).filter(|l| serving.by_listener[*l] == at).collect();
        let swapped = one(crew, old, &loader, &path, listeners)?;
        tracing::info!(
            plugin = swapped.plugin,
            from = swapped.from,
            to = swapped.to,
            listeners = swapped.listeners.join(", "),
            old_sessions = old.sessions.load(std::sync::atomic::Ordering::Relaxed),
            loads = swaps.loads,
            most = LOADS_MAX,
            "a plugin was swapped: new connections have the new build"
        );
        done.push(swapped);
    }
    if done.is_empty() {
        tracing::info!("no plugin's file has changed");
    }
    Ok(done)
}

/// The file of a protocol, when it is another one than was loaded.
fn changed(old: &ProtocolInstance, loader: &Loader) -> Result<Option<PathBuf>, String> {
    let (Origin::File(_), Some(stamp)) = (&old.plugin.origin, old.plugin.stamp) else {
        return Ok(None);
    };
    let path = loader.find(&old.written).map_err(|e| e.to_string())?;
    let now =
        Stamp::of(&path).map_err(|e| format!("cannot read plugin {}: {e}", path.display()))?;
    Ok((now != stamp).then_some(path))
}

fn one(
    crew: &Arc<Crew>,
    old: &ProtocolInstance,
    loader: &Loader,
    path: &std::path::Path,
    listeners: Vec<usize>,
) -> Result<Swapped, String> {
    let plugin = loader.load_copy(path).map_err(|e| e.to_string())?;
    let (before, after) = (&old.plugin.metadata, &plugin.metadata);
    if (before.kind, &before.name) != (after.kind, &after.name) {
        return Err(format!(
            "{} was the {} {} and is the {} {} now; a reload keeps kind and name",
            path.display(),
            before.kind,
            before.name,
            after.kind,
            after.name
        ));
    }
    let mut made = make(crew, old, plugin)?;
    made.written.clone_from(&old.written);
    let swap = Arc::new(Swap {
        instance: Arc::new(made),
        listeners,
        state: Mutex::new((Step::Prepare, Vec::new())),
        answered: Condvar::new(),
    });
    if let Err(reason) = swap.run(crew, Step::Prepare) {
        // An instance that a worker may still hold stays.
        if swap.run(crew, Step::GiveBack).is_ok() {
            swap.instance.destroy();
        }
        return Err(reason);
    }
    {
        let mut serving = crew.serving.write().unwrap_or_else(PoisonError::into_inner);
        serving.protocols.push(swap.instance.clone());
        let last = serving.protocols.len() - 1;
        for &listener in &swap.listeners {
            serving.by_listener[listener] = last;
        }
    }
    swap.run(crew, Step::Serve)?;
    let name = |&listener: &usize| crew.core.listeners[listener].name.clone();
    Ok(Swapped {
        plugin: before.name.clone(),
        from: before.version.clone(),
        to: swap.instance.plugin.metadata.version.clone(),
        listeners: swap.listeners.iter().map(name).collect(),
    })
}

/// Makes an instance of the new build, on a thread of its own: one that does not come to an end
/// holds up nothing but that thread.
fn make(
    crew: &Arc<Crew>,
    old: &ProtocolInstance,
    plugin: Loaded,
) -> Result<ProtocolInstance, String> {
    let name = plugin.metadata.name.clone();
    let (core, store, at) = (crew.core.clone(), crew.stores[old.store].clone(), old.store);
    let (settings, place) = (old.settings.clone(), old.place.clone());
    let (tell, told) = mpsc::channel();
    let work = move || {
        let made = ProtocolInstance::make(&core, plugin, &settings, (at, &store), &place);
        // Nobody waits any more: the swap was given up.
        if let Err(mpsc::SendError(Ok(late))) = tell.send(made) {
            late.destroy();
        }
    };
    std::thread::Builder::new()
        .name("swap".into())
        .spawn(work)
        .map_err(|e| format!("no thread to start {name} on: {e}"))?;
    match told.recv_timeout(START_LIMIT) {
        Ok(made) => made.map_err(|e| e.to_string()),
        Err(_) => {
            Err(format!("{name} did not start within {START_LIMIT:?}; the build before it goes on"))
        }
    }
}
