//! Looks at keys of structures while others change them.

use crucible_heap::Heap;
use crucible_plugin_api::{Element, ItemKind, Op, PluginInfo, Status, StructOp, backend_root};
use crucible_plugin_testkit::Store;

const WORKERS: u32 = 4;
/// More than any compact encoding holds.
const ELEMENTS: usize = 600;

#[test]
fn whoever_looks_at_a_structures_key_sees_one_of_the_states_that_it_was_in() {
    let info = PluginInfo { name: "heap", version: "0" };
    let store = Store::create(backend_root::<Heap>(info), r#"{"heap_size":"8MB"}"#, WORKERS);
    let store = store.expect("a store");
    let names: Vec<String> = (0..ELEMENTS).map(|i| format!("m{i}")).collect();
    std::thread::scope(|scope| {
        for id in 0..WORKERS {
            let (store, names) = (&store, &names);
            scope.spawn(move || {
                let mut worker = store.worker(id);
                let all: Vec<Element<'_>> =
                    names.iter().map(|name| Element::bytes(name.as_bytes())).collect();
                for round in 0..120 {
                    if id % 2 == 0 {
                        // From few elements to many and back: another encoding each time.
                        let op =
                            if round % 2 == 0 { StructOp::SET_ADD } else { StructOp::SET_REMOVE };
                        worker.run(Op::structure(op, b"s").args(&all[id as usize..]));
                    }
                    let got = worker.run(Op::get(b"s"));
                    assert!(matches!(got.status, Status::WRONG_TYPE | Status::MISS));
                    assert_eq!(got.item, None);
                    let meta = worker.run(Op::meta(b"s"));
                    assert!(matches!(meta.status, Status::OK | Status::MISS));
                    if let Some(item) = meta.item {
                        assert_eq!(item.kind, ItemKind::Set);
                        assert!((1..=names.len()).contains(&item.len));
                    }
                }
            });
        }
    });
    store.check();
}
