//! The suite that every backend must pass.
//!
//! ```
//! use crucible_plugin_testkit::{Contract, ModelBackend};
//!
//! Contract::of::<ModelBackend>("{}").run();
//! ```
//! The oracle is `crucible_plugin_api::semantics::decide`: what it decides is
//! what must happen, whatever fast paths a backend has. Each [`Part`] makes its
//! own instance, so parts can run one by one, also in a child process against a
//! plugin file.
//!
//! Always true: a wrong value never passes. A miss passes where memory may have
//! run out and the backend was said to evict.

mod bodies;
mod expiry;
mod known;
mod operations;
mod random;
mod structures;
mod threads;
mod tokens;
mod views;
mod whole;

use crucible_plugin_api::abi::tables::Plugin_Ref;
use crucible_plugin_api::{Backend, PluginInfo, backend_root};

use crate::store::Store;

/// One part of the suite.
#[derive(Clone, Copy)]
pub struct Part {
    /// What it claims.
    pub name: &'static str,
    check: fn(&Contract),
}

impl Part {
    /// Checks it.
    ///
    /// # Panics
    /// With what is wrong.
    #[track_caller]
    pub fn check(&self, contract: &Contract) {
        (self.check)(contract);
    }
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// All parts, the quick ones first.
pub const PARTS: [Part; 21] = [
    Part { name: "every operation does what the rules decide", check: operations::every_case },
    Part { name: "a batch runs in order", check: operations::batches },
    Part { name: "limits are kept and told", check: whole::limits },
    Part { name: "CAS tokens name one state of a key", check: tokens::tokens },
    Part { name: "an item is absent from its deadline on", check: expiry::deadlines },
    Part { name: "views hold until the sweep ends", check: views::in_the_sweep },
    Part { name: "retained views hold until they are released", check: views::retained },
    Part { name: "bodies appear when they are committed, whole", check: bodies::bodies },
    Part { name: "a flush takes what was stored before it", check: whole::flush },
    Part { name: "a scan visits what stays", check: whole::scan },
    Part { name: "statistics count", check: whole::stats },
    Part { name: "random operations follow the model", check: random::random },
    Part { name: "a structure is one kind of value", check: structures::kinds },
    Part { name: "answers of structures hold until the sweep ends", check: structures::answers },
    Part { name: "random members and scans miss nothing", check: structures::members },
    Part { name: "a flush and a scan know structures", check: structures::whole },
    Part { name: "structures follow the model", check: structures::random },
    Part { name: "racing writers lose no update", check: threads::updates },
    Part { name: "racing creators and removers have one winner", check: threads::winners },
    Part { name: "racing writers lose no element", check: structures::races },
    Part { name: "readers see whole values, never older ones", check: threads::readers },
];

/// A backend under test.
#[derive(Clone)]
pub struct Contract {
    root: Plugin_Ref,
    settings: String,
    pub(crate) evicts: bool,
    pub(crate) rounds: u32,
}

impl std::fmt::Debug for Contract {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contract").field("settings", &self.settings).finish_non_exhaustive()
    }
}

const INFO: PluginInfo = PluginInfo { name: "under-test", version: "0.0.0" };

impl Contract {
    /// A backend with these settings. They should give it room for some ten
    /// megabytes, so that nothing needs to be evicted.
    #[must_use]
    pub fn of<B: Backend>(settings: &str) -> Self {
        Self::of_root(backend_root::<B>(INFO), settings)
    }

    /// A backend by its plugin's root.
    #[must_use]
    pub fn of_root(root: Plugin_Ref, settings: &str) -> Self {
        Self { root, settings: settings.to_owned(), evicts: false, rounds: 3000 }
    }

    /// It may forget items to make room: the random part accepts misses.
    #[must_use]
    pub fn evicts(mut self) -> Self {
        self.evicts = true;
        self
    }

    /// How many batches the random part plays (3000 unless told).
    #[must_use]
    pub fn rounds(mut self, rounds: u32) -> Self {
        self.rounds = rounds;
        self
    }

    /// Checks everything.
    ///
    /// # Panics
    /// With the part, and what is wrong.
    #[track_caller]
    pub fn run(&self) {
        for part in PARTS {
            eprintln!("contract: {}", part.name);
            part.check(self);
        }
    }

    /// Plays random batches as the bytes of a fuzzer say, against the rules.
    ///
    /// # Panics
    /// With what is wrong.
    #[track_caller]
    pub fn play(&self, bytes: &[u8]) {
        random::tape(self, bytes);
    }

    /// Plays operations on structures as the bytes of a fuzzer say, against the model.
    ///
    /// # Panics
    /// With what is wrong.
    #[track_caller]
    pub fn play_structures(&self, bytes: &[u8]) {
        structures::tape(self, bytes);
    }

    pub(crate) fn store(&self, workers: u32) -> Store {
        Store::create(self.root, &self.settings, workers).expect("the backend takes its settings")
    }
}
