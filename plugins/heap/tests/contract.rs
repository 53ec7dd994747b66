//! The backend keeps every promise of the shared contract, whatever the policy.

use crucible_heap::Heap;
use crucible_plugin_testkit::Contract;

#[test]
fn the_contract_holds() {
    Contract::of::<Heap>(r#"{"heap_size":"128MB"}"#).run();
}

#[test]
fn the_contract_holds_for_other_policies() {
    for policy in ["lfu", "lru"] {
        let settings = format!(r#"{{"heap_size":"128MB","policy":"{policy}"}}"#);
        Contract::of::<Heap>(&settings).rounds(100).run();
    }
}
