//! Backends with one defect each: the suite finds every one of them.

#[path = "planted/backend.rs"]
mod backend;

use backend::Planted;
use crucible_plugin_testkit::Contract;
use crucible_plugin_testkit::contract::{PARTS, Part};

const DEFECTS: [&str; 28] = [
    "forgets a status",
    "answers the batch backwards",
    "ignores IF_ABSENT",
    "ignores IF_EQUAL",
    "accepts any token",
    "answers no token",
    "forgets KEEP_TTL",
    "forgets KEEP_FLAGS",
    "returns the new for the old",
    "loses marks",
    "loses the new token",
    "rounds deadlines up",
    "touches nothing",
    "unsigned like signed",
    "answers NOT_STORED for MISS",
    "reuses the memory of views",
    "truncates long values",
    "takes longer keys",
    "flush keeps one",
    "scan skips",
    "never takes bodies back",
    "inserts before the pivot",
    "ranges forwards only",
    "forgets to store an outcome",
    "fields without deadlines",
    "structures live for ever",
    "a structure is a miss",
    "loses the last of many elements",
];

fn finds(defect: &str) -> Option<&'static str> {
    let contract = Contract::of::<Planted>(&format!(r#"{{"defect":"{defect}"}}"#));
    let broken = |part: &Part| std::panic::catch_unwind(|| part.check(&contract)).is_err();
    PARTS.iter().find(|part| broken(part)).map(|part| part.name)
}

#[test]
fn the_suite_finds_every_planted_defect_and_none_where_there_is_none() {
    assert_eq!(finds("none"), None);
    let missed: Vec<&str> = DEFECTS.into_iter().filter(|d| finds(d).is_none()).collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}
