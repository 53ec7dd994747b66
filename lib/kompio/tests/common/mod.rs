//! Servers and clients for the tests on real sockets.
//!
//! What must always be true: every blocking call of a client has a limit, so a test that is wrong
//! fails instead of hanging. Called by the test files beside it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use kompio::{
    Config, ConnToken, Consumed, DriverCtx, EventHandler, KompioBuilder, Server, Shutdown,
};

/// Longest wait of any client; no test waits this long unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub const DRAIN: Shutdown = Shutdown::Drain { deadline: PATIENCE };

/// Sends back what it receives, as much as its peer reads.
pub struct Echo;

impl EventHandler for Echo {
    fn on_data(&mut self, ctx: &mut DriverCtx, conn: ConnToken, data: &[u8]) -> Consumed {
        if ctx.is_congested(conn) {
            return Consumed::Bytes(0);
        }
        ctx.send(conn, data);
        Consumed::Bytes(data.len())
    }
}

pub fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

pub fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

pub fn echo(change: impl FnOnce(&mut Config)) -> Server {
    KompioBuilder::new(config(change)).bind(any_port()).launch(|_| Echo).expect("launch")
}

pub fn address(server: &Server) -> SocketAddr {
    server.addresses()[0].as_inet().expect("a TCP listener")
}

pub fn client(server: &Server) -> TcpStream {
    patient(TcpStream::connect(address(server)).expect("connect"))
}

pub fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("read timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("write timeout");
    stream.set_nodelay(true).expect("nodelay");
    stream
}

/// Drains and checks that nothing was cut.
pub fn finish(server: Server) {
    server.shutdown(DRAIN);
    let report = server.join();
    assert!(report.drained, "{report:?}");
}
