//! Nanoseconds, or under callgrind instructions, of GET and SET on slab; see
//! `crucible_plugin_testkit::speed` for the arguments.

fn main() {
    crucible_plugin_testkit::speed::of::<crucible_slab::Slab>(r#"{"heap_size":"128MB"}"#);
}
