//! Nanoseconds, or under callgrind instructions, of GET and SET on segcache; see
//! `crucible_plugin_testkit::speed` for the arguments.

fn main() {
    crucible_plugin_testkit::speed::of::<crucible_segcache::Segcache>(r#"{"heap_size":"128MB"}"#);
}
