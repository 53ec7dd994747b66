//! The backend keeps every promise of the shared contract, whatever the policy.
//! What holds while everything is evicted is checked by cache-core's model test.

use crucible_plugin_testkit::Contract;
use crucible_segcache::Segcache;

#[test]
fn the_contract_holds() {
    Contract::of::<Segcache>(r#"{"heap_size":"128MB","segment_size":"1MB"}"#).run();
}

#[test]
fn the_contract_holds_for_other_policies() {
    for policy in ["fifo", "merge"] {
        let settings =
            format!(r#"{{"heap_size":"128MB","segment_size":"1MB","policy":"{policy}"}}"#);
        Contract::of::<Segcache>(&settings).rounds(100).run();
    }
}
