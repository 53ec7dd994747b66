//! Connections that a handler opens, and what is known of a connection's socket and its ends.

use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::DriverCtx;
use crate::addr::Addr;
use crate::conn::flag;
use crate::error::ConnectError;
use crate::sys;
use crate::timer::Purpose;
use crate::token::ConnToken;

impl DriverCtx {
    /// Opens a connection to `to`; `on_connect` tells the result.
    ///
    /// # Errors
    /// When no attempt was made at all; then no callback follows.
    pub fn connect(&mut self, to: impl Into<Addr>) -> Result<ConnToken, ConnectError> {
        self.connect_to(&to.into())
    }

    /// As [`connect`](Self::connect), failing with `TimedOut` when `after` has passed.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_with_timeout(
        &mut self,
        to: impl Into<Addr>,
        after: Duration,
    ) -> Result<ConnToken, ConnectError> {
        let conn = self.connect_to(&to.into())?;
        self.timers.set(self.now + after, Purpose::Connect(conn));
        Ok(conn)
    }

    fn connect_to(&mut self, to: &Addr) -> Result<ConnToken, ConnectError> {
        if self.draining {
            return Err(ConnectError::ShuttingDown);
        }
        let refused = |source| ConnectError::Socket { source };
        let address = to.to_socket().map_err(refused)?;
        if !self.shared.admit(self.config.max_connections) {
            return Err(ConnectError::TooManyConnections { limit: self.config.max_connections });
        }
        let socket = match self.open_socket(to) {
            Ok(socket) => socket,
            Err(source) => {
                self.shared.leave();
                return Err(refused(source));
            }
        };
        self.stats.connects += 1;
        let conn = self.adopt(sys::into_raw(socket));
        let c = self.conns.at(conn.index() as u32);
        c.set(flag::CONNECTING);
        c.address = Some(Box::new(address));
        self.touch(conn);
        Ok(conn)
    }

    fn open_socket(&self, to: &Addr) -> std::io::Result<Socket> {
        match to {
            Addr::Unix(_) => Socket::new(Domain::UNIX, Type::STREAM, None),
            Addr::Inet(inet) => {
                let socket =
                    Socket::new(Domain::for_address(*inet), Type::STREAM, Some(Protocol::TCP))?;
                crate::listen::tune(&socket, &self.config)?;
                Ok(socket)
            }
        }
    }

    /// From now on `conn`'s receives come with the kernel's time of arrival, for
    /// [`received_at`](Self::received_at); whoever calls has set `SO_TIMESTAMPING` on its
    /// [`descriptor`](Self::descriptor). False when a receive is under way already: the place to
    /// call it is `on_accept` or `on_connect`. Needs whole receive buffers
    /// (`incremental_buffers = false`), of which the header takes a part.
    pub fn stamp_receives(&mut self, conn: ConnToken) -> bool {
        if self.config.incremental_buffers {
            return false;
        }
        match self.find(conn) {
            Some(c) if !c.has(flag::RECV_ARMED) => {
                c.stamped = true;
                true
            }
            _ => false,
        }
    }

    /// Inside `on_data`: when the kernel received the last of the bytes that have just arrived, on
    /// the clock of [`SystemTime`](std::time::SystemTime), since the epoch.
    pub fn received_at(&self) -> Option<Duration> {
        self.stamps.latest
    }

    /// The connection's socket, for options and for its error queue. It must be neither read nor
    /// written.
    pub fn descriptor(&self, conn: ConnToken) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.find_ref(conn).map(|c| sys::borrow(c.fd))
    }

    /// Address of the other end.
    pub fn peer_addr(&self, conn: ConnToken) -> Option<Addr> {
        let c = self.find_ref(conn)?;
        let fd = sys::borrow(c.fd);
        SockRef::from(&fd).peer_addr().ok().map(|a| Addr::from_socket(&a))
    }

    /// Address of this end.
    pub fn local_addr(&self, conn: ConnToken) -> Option<Addr> {
        let c = self.find_ref(conn)?;
        let fd = sys::borrow(c.fd);
        SockRef::from(&fd).local_addr().ok().map(|a| Addr::from_socket(&a))
    }
}
