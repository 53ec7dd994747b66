//! An echo server: `echo [ADDRESS [WORKERS]]`, drained by a line (or the end) of its input.
//!
//! What must always be true: what a client sends comes back, also when it half-closes at once.
//! Run by hand; the smallest complete user of the library.

use std::time::Duration;

use kompio::{Config, ConnToken, Consumed, DriverCtx, EventHandler, KompioBuilder, Shutdown};

struct Echo;

impl EventHandler for Echo {
    fn on_data(&mut self, ctx: &mut DriverCtx, conn: ConnToken, data: &[u8]) -> Consumed {
        if ctx.is_congested(conn) {
            // The peer does not read: leave the bytes, receiving has paused already.
            return Consumed::Bytes(0);
        }
        ctx.send(conn, data);
        Consumed::Bytes(data.len())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:7007".to_owned());
    let mut config = Config::default();
    config.workers = arguments.next().map_or(Ok(1), |n| n.parse())?;
    let server = KompioBuilder::new(config).bind(address.parse()?).launch(|_worker| Echo)?;
    println!("echo on {}", server.addresses()[0]);
    std::io::stdin().read_line(&mut String::new())?;
    server.shutdown(Shutdown::Drain { deadline: Duration::from_secs(5) });
    let report = server.join();
    println!("drained: {}", report.drained);
    Ok(())
}
