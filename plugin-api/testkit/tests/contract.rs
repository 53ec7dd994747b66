//! The suite passes what follows the rules, and finds what does not.

use crucible_plugin_testkit::contract::PARTS;
use crucible_plugin_testkit::{Contract, Faulty, ModelBackend};

#[test]
fn the_model_passes() {
    Contract::of::<ModelBackend>("{}").run();
}

#[test]
fn the_model_passes_without_bodies_and_with_a_wrapper() {
    let contract = Contract::of::<Faulty<ModelBackend>>(
        r#"{"no_reserve":true,"inner":{"retain":false,"value_len_max":1000000}}"#,
    );
    contract.run();
}

#[test]
fn a_backend_that_refuses_writes_fails_most_parts() {
    let contract = Contract::of::<Faulty<ModelBackend>>(r#"{"no_memory_every":7}"#);
    let failed = PARTS
        .iter()
        .filter(|part| std::panic::catch_unwind(|| part.check(&contract)).is_err())
        .count();
    assert!(failed >= 12, "{failed} parts of {} saw it", PARTS.len());
}
