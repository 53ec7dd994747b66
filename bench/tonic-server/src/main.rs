//! Momento's Get, Set and Delete as one would write them first: tonic over tokio, and a hash map behind a lock.
//!
//! Always true: one thread, and no time to live, eviction or account: whatever it does less than a cache is to its
//! advantage. Started by `cargo xtask compare --momento` as `tonic-server PORT`.

mod messages;
mod service;

use std::net::{Ipv4Addr, SocketAddr};

use service::Scs;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).ok_or("usage: tonic-server PORT")?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    runtime.block_on(async {
        let mut server = tonic::transport::Server::builder().tcp_nodelay(true);
        server.add_service(Scs::default()).serve(address).await
    })?;
    Ok(())
}
