//! `libheap.so`: exports the plugin of `crucible-heap`; holds nothing else.

crucible_plugin_api::export_backend!("heap", crucible_heap::Heap);
