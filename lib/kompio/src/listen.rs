//! Opening listening sockets.
//!
//! What must always be true: options that accepted sockets inherit (TCP_NODELAY, keep-alive) are
//! set on the listener, so that a connection costs no call for them. Called by the builder.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use crate::addr::Addr;
use crate::config::Config;

/// Options of a TCP socket.
pub(crate) fn tune(socket: &Socket, config: &Config) -> io::Result<()> {
    if config.nodelay {
        socket.set_tcp_nodelay(true)?;
    }
    if let Some(idle) = config.keepalive {
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle))?;
    }
    Ok(())
}

pub(crate) fn tcp(address: SocketAddr, config: &Config, reuse_port: bool) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        // One address, one family: a second listener on the same port takes the other.
        socket.set_only_v6(true)?;
    }
    tune(&socket, config)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(config.backlog.min(i32::MAX as u32) as i32)?;
    Ok(socket.into())
}

/// A unix socket; a socket file that nobody serves any more is replaced.
pub(crate) fn unix(path: &Path, config: &Config) -> io::Result<OwnedFd> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    if let Err(error) = socket.bind(&address) {
        if error.raw_os_error() != Some(libc::EADDRINUSE) || !is_abandoned(path, &address) {
            return Err(error);
        }
        std::fs::remove_file(path)?;
        socket.bind(&address)?;
    }
    socket.listen(config.backlog.min(i32::MAX as u32) as i32)?;
    Ok(socket.into())
}

fn is_abandoned(path: &Path, address: &SockAddr) -> bool {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|m| m.file_type().is_socket());
    is_socket
        && Socket::new(Domain::UNIX, Type::STREAM, None)
            .and_then(|probe| probe.connect(address))
            .is_err_and(|e| e.raw_os_error() == Some(libc::ECONNREFUSED))
}

/// The address that a listening socket really has.
pub(crate) fn bound_address(fd: &OwnedFd) -> io::Result<Addr> {
    SockRef::from(fd).local_addr().map(|a| Addr::from_socket(&a))
}
