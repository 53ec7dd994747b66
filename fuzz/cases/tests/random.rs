//! Every case on its committed seeds, on pieces of them, and on random bytes: the same in every run.
//! What libFuzzer does for minutes, `cargo test` does for a second or two; the number of random inputs
//! is `CRUCIBLE_FUZZ_INPUTS`.

use crucible_fuzz_cases::CASES;
use std::fs;
use std::path::PathBuf;

/// A splitmix generator.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        // Small numbers are commoner than large ones, as in a corpus.
        (0..len)
            .map(|_| match self.below(3) {
                0 => self.below(4) as u8,
                1 => self.below(32) as u8,
                _ => self.next() as u8,
            })
            .collect()
    }
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../seeds").join(name);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a seed")).collect()
}

fn spoil(random: &mut Random, seed: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len() + 1);
        let len = random.below(40);
        match random.below(4) {
            0 => bytes.truncate(at),
            1 => drop(bytes.splice(at..at, random.bytes(len))),
            2 if at < bytes.len() => bytes[at] = random.next() as u8,
            _ => drop(bytes.drain(at..(at + len).min(bytes.len()))),
        }
    }
    bytes
}

fn play(name: &str) {
    let case = CASES.iter().find(|case| case.name == name).expect("a case");
    let inputs = std::env::var("CRUCIBLE_FUZZ_INPUTS");
    let inputs: usize = inputs.map_or(1000, |text| text.parse().expect("a number"));
    let seeds = seeds(name);
    for seed in &seeds {
        (case.run)(seed);
    }
    let mut random = Random(20_261_122);
    for _ in 0..inputs {
        let len_max = if random.below(8) == 0 { 4000 } else { 300 };
        let len = random.below(len_max);
        let input = match seeds.len() {
            n if n > 0 && random.below(2) == 0 => {
                let seed = &seeds[random.below(n)];
                spoil(&mut random, seed)
            }
            _ => random.bytes(len),
        };
        (case.run)(&input);
    }
}

macro_rules! claims {
    ($($claim:ident: $($name:literal),+;)+) => {
        $(#[test]
        fn $claim() {
            for name in [$($name),+] {
                play(name);
            }
        })+

        #[test]
        fn every_case_is_played_and_is_a_fuzz_target() {
            let played = [$($($name),+),+];
            let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz_targets");
            for case in CASES {
                assert!(played.contains(&case.name), "{case:?} is not played");
                assert!(folder.join(format!("{}.rs", case.name)).exists(), "{case:?} is no target");
            }
        }
    };
}

claims! {
    no_bytes_make_a_resp_session_panic_or_keep_anything: "resp_session";
    no_bytes_make_a_memcache_session_panic_or_keep_anything: "memcache_session";
    no_bytes_make_a_momento_session_panic_or_keep_anything: "momento_session";
    no_bytes_make_a_ping_session_panic_or_keep_anything: "ping_session";
    commands_of_resp_are_answered_once_each: "resp_replies";
    commands_of_memcache_are_answered_once_each: "memcache_replies";
    two_protocols_read_only_what_one_of_them_wrote: "two_protocols";
    segcache_does_what_the_rules_decide: "segcache_model";
    an_evicting_segcache_forgets_and_is_never_wrong: "segcache_tiny";
    heap_does_what_the_rules_decide: "heap_model";
    slab_does_what_the_rules_decide: "slab_model";
    structures_in_heap_are_those_of_the_model: "heap_structures";
    any_bytes_are_a_plugin_record_or_refused: "plugin_record";
    any_file_is_a_configuration_or_refused: "config_file";
    any_file_is_a_trace_or_refused: "trace_file";
}
