//! What arbitrary bytes are done to, one function for each case, and what must hold whatever they are.
//!
//! A case never panics on a right server; a panic is a finding. The same functions are run by
//! libFuzzer (`fuzz/fuzz_targets`, `cargo xtask fuzz-all`) for as long as one likes, and by this
//! package's test on the committed seeds and some random inputs with every `cargo test`. An input that
//! broke a case becomes a test named after its claim, beside what was mended.
#![deny(unsafe_code)]

#[cfg(feature = "programs")]
mod files;
mod record;
mod replies;
mod sessions;
mod stores;
mod two_protocols;

/// A case: its name is that of its fuzz target, and of the folder of its seeds.
#[derive(Clone, Copy)]
pub struct Case {
    /// `resp_session`, for example.
    pub name: &'static str,
    /// Does it.
    pub run: fn(&[u8]),
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// All cases.
pub const CASES: &[Case] = &[
    Case { name: "resp_session", run: sessions::resp },
    Case { name: "memcache_session", run: sessions::memcache },
    Case { name: "momento_session", run: sessions::momento },
    Case { name: "ping_session", run: sessions::ping },
    Case { name: "resp_replies", run: replies::resp },
    Case { name: "memcache_replies", run: replies::memcache },
    Case { name: "two_protocols", run: two_protocols::run },
    Case { name: "segcache_model", run: stores::segcache },
    Case { name: "segcache_tiny", run: stores::segcache_tiny },
    Case { name: "heap_model", run: stores::heap },
    Case { name: "slab_model", run: stores::slab },
    Case { name: "heap_structures", run: stores::structures },
    Case { name: "plugin_record", run: record::run },
    #[cfg(feature = "programs")]
    Case { name: "config_file", run: files::config },
    #[cfg(feature = "programs")]
    Case { name: "trace_file", run: files::trace },
];

/// Runs the case of this name.
///
/// # Panics
/// When there is none, and as the case does.
pub fn run(name: &str, bytes: &[u8]) {
    let case = CASES.iter().find(|case| case.name == name).expect("a case of this name");
    (case.run)(bytes);
}
