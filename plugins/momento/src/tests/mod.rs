//! The plugin as clients see it, over the test kit's host and its model store.

mod client;
mod collections;
mod grpc;
mod hostile;
mod socket;
mod topics;

use crucible_plugin_testkit::{Conn, ModelBackend, TestHost};

use crate::Momento;

/// A host with one momento connection.
fn connect(settings: &str) -> (TestHost, Conn) {
    let host = TestHost::new();
    let store = host.backend::<ModelBackend>("");
    let conn = host.connect(host.protocol::<Momento>(settings, store));
    (host, conn)
}
