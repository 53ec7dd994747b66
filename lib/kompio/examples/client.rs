//! A pure client on the calling thread: `client [ADDRESS [ROUNDS]]` sends a line, waits for it
//! to come back (see the echo example) and prints the median round trip.
//!
//! What must always be true: it ends, whether the server answers, refuses or goes away. Run by
//! hand.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kompio::{
    CloseReason, Config, ConnToken, Consumed, DriverCtx, EventHandler, KompioBuilder, Shutdown,
};

const LINE: &[u8] = b"there and back again\n";

struct Client {
    server: SocketAddr,
    rounds: usize,
    sent_at: Instant,
    round_trips: Vec<Duration>,
}

impl Client {
    fn ask(&mut self, ctx: &mut DriverCtx, conn: ConnToken) {
        self.sent_at = Instant::now();
        ctx.send(conn, LINE);
    }
}

impl EventHandler for Client {
    fn on_start(&mut self, ctx: &mut DriverCtx) {
        if let Err(error) = ctx.connect_with_timeout(self.server, Duration::from_secs(5)) {
            eprintln!("{error}");
            ctx.request_shutdown(Shutdown::Now);
        }
    }

    fn on_connect(&mut self, ctx: &mut DriverCtx, conn: ConnToken, result: io::Result<()>) {
        match result {
            Ok(()) => self.ask(ctx, conn),
            Err(error) => eprintln!("{}: {error}", self.server),
        }
    }

    fn on_data(&mut self, ctx: &mut DriverCtx, conn: ConnToken, data: &[u8]) -> Consumed {
        if data.len() < LINE.len() {
            return Consumed::Bytes(0);
        }
        self.round_trips.push(self.sent_at.elapsed());
        if self.round_trips.len() < self.rounds {
            self.ask(ctx, conn);
        } else {
            ctx.close(conn);
        }
        Consumed::Bytes(LINE.len())
    }

    fn on_close(&mut self, ctx: &mut DriverCtx, _: ConnToken, reason: CloseReason) {
        if reason != CloseReason::Local {
            eprintln!("closed: {reason:?}");
        }
        ctx.request_shutdown(Shutdown::Now);
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let server = arguments.next().unwrap_or_else(|| "127.0.0.1:7007".to_owned()).parse()?;
    let rounds = arguments.next().map_or(Ok(1000), |n| n.parse())?;
    let client = Client { server, rounds, sent_at: Instant::now(), round_trips: Vec::new() };
    let mut local = KompioBuilder::new(Config::default()).local(|_worker| client)?;
    local.run()?;
    let times = &mut local.handler_mut().round_trips;
    times.sort_unstable();
    if let Some(median) = times.get(times.len() / 2) {
        println!("{} round trips, median {median:?}", times.len());
    }
    Ok(())
}
