//! The backend keeps every promise of the shared contract, whatever the policy.

use crucible_plugin_testkit::Contract;
use crucible_slab::Slab;

#[test]
fn the_contract_holds() {
    Contract::of::<Slab>(r#"{"heap_size":"128MB","slab_size":"1MB"}"#).run();
}

#[test]
fn the_contract_holds_for_other_policies_and_sizes() {
    for settings in [
        r#"{"heap_size":"128MB","policy":"lrc","slab_size":"256KB","growth_factor":1.25}"#,
        r#"{"heap_size":"128MB","policy":"random","hugepage":"none"}"#,
        r#"{"heap_size":"128MB","policy":"none","prefault":true}"#,
    ] {
        Contract::of::<Slab>(settings).rounds(100).run();
    }
}
