//! What one crossing for a sweep of 16 connections is worth on segcache; see
//! `crucible_plugin_testkit::crossing` for the arguments.

fn main() {
    crucible_plugin_testkit::crossing::of::<crucible_segcache::Segcache>(|items| {
        let heap_size = (items * 160).max(64 << 20);
        format!(r#"{{"heap_size":{heap_size},"prefault":true}}"#)
    });
}
