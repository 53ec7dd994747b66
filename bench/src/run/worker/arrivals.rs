//! What a worker does with the bytes that arrive, through a channel or plain.
//!
//! Always true: replies that came before a goodbye count; after garbage nothing of a connection is read.
//! Called by the worker's event loop.

use kompio::{ConnToken, DriverCtx};

use super::super::conn::State;
use super::Worker;
use crate::record::sample::All;
use crate::wire::Codec;

impl<C: Codec> Worker<C> {
    /// Bytes of a sealed connection.
    pub(super) fn on_sealed(
        &mut self,
        ctx: &mut DriverCtx,
        number: u32,
        token: ConnToken,
        data: &[u8],
        now_ns: u64,
    ) {
        let Some(channel) = &mut self.conns[number as usize].channel else { return };
        let opened = channel.open(data);
        let ready = channel.is_ready();
        let mut plain = std::mem::take(&mut channel.plain);
        // An alert goes out even when what came could not be opened.
        self.say(ctx, number, token);
        if ready && opened.is_ok() && self.conns[number as usize].state == State::Securing {
            self.greet(ctx, number, token);
        }
        // Replies that came before a goodbye count.
        if !plain.is_empty() {
            match self.on_plain(ctx, number, token, &plain, now_ns) {
                Ok(used) => drop(plain.drain(..used)),
                Err(()) => return,
            }
        }
        match (opened, &mut self.conns[number as usize].channel) {
            (Err(why), _) => self.lost(ctx, number, &why),
            (Ok(()), Some(channel)) => channel.plain = plain,
            (Ok(()), None) => {}
        }
    }

    /// Plain bytes; gives how many are done with, or nothing of a connection that was given up.
    pub(super) fn on_plain(
        &mut self,
        ctx: &mut DriverCtx,
        number: u32,
        token: ConnToken,
        data: &[u8],
        now_ns: u64,
    ) -> Result<usize, ()> {
        let conn = &mut self.conns[number as usize];
        let was = conn.state;
        let had_room = conn.listed;
        match conn.receive(data, now_ns, &mut self.work) {
            Ok(used) => {
                self.work.sample.add(All::BytesReceived, used as u64);
                if was == State::Greeting && conn.state == State::Up {
                    self.came_up(number);
                }
                self.follow(ctx, number, token);
                if !had_room {
                    if self.held.is_some() {
                        self.room_ns = now_ns;
                    }
                    self.list(number);
                }
                Ok(used)
            }
            Err(garbage) => {
                self.garbage(ctx, number, &garbage);
                Err(())
            }
        }
    }
}
