//! Linearizability per key, by the test kit's checker.

use crucible_heap::Heap;
use crucible_plugin_testkit::linear;

#[test]
fn some_order_explains_what_threads_see_of_one_key_while_its_table_grows() {
    linear::check::<Heap>("heap");
}
