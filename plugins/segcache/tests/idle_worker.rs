//! A worker that only ticks, as an idle event loop does, holds nothing back.

use crucible_plugin_api::{Op, PluginInfo, Status, backend_root};
use crucible_plugin_testkit::Store;
use crucible_segcache::Segcache;

#[test]
fn an_idle_worker_that_ticks_does_not_hold_back_the_memory_of_others() {
    let root = backend_root::<Segcache>(PluginInfo { name: "segcache", version: "0" });
    let settings = r#"{"heap_size":"16MB","segment_size":"256KB"}"#;
    let store = Store::create(root, settings, 2).expect("the settings are good");
    let (mut busy, mut idle) = (store.worker(0), store.worker(1));
    let value = vec![7u8; 200_000];
    // The idle loop ticks, and sleeps from then on.
    idle.tick(1_000_000);
    for i in 0..400u32 {
        let key = format!("key{i}");
        let answer = busy.run(Op::store(key.as_bytes(), &value));
        assert_eq!(answer.status, Status::OK, "store {i}");
        busy.enter();
        let mut body = busy.reserve(Op::store(b"streamed", b""), value.len()).expect("memory");
        busy.leave();
        body.fill(&value);
        let answer = busy.commit(body, Op::store(b"streamed", b""));
        assert_eq!(answer.status, Status::OK, "streamed store {i}");
    }
}
