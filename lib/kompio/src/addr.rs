//! Addresses of sockets, TCP and unix.
//!
//! What must always be true: a port of 0 never leaves here for a bound listener. Called by the
//! builder, `peer_addr` and `local_addr`.

use std::net::SocketAddr;
use std::path::PathBuf;

use socket2::SockAddr;

/// Address of a listener or of one end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Addr {
    /// TCP.
    Inet(SocketAddr),
    /// A unix socket; clients usually have no path.
    Unix(Option<PathBuf>),
}

impl Addr {
    pub(crate) fn from_socket(address: &SockAddr) -> Addr {
        match address.as_socket() {
            Some(inet) => Addr::Inet(inet),
            None => Addr::Unix(address.as_pathname().map(Into::into)),
        }
    }

    pub(crate) fn to_socket(&self) -> std::io::Result<SockAddr> {
        match self {
            Addr::Inet(inet) => Ok(SockAddr::from(*inet)),
            Addr::Unix(path) => SockAddr::unix(path.as_deref().unwrap_or("".as_ref())),
        }
    }

    /// The TCP address, if it is one.
    pub fn as_inet(&self) -> Option<SocketAddr> {
        match self {
            Addr::Inet(inet) => Some(*inet),
            Addr::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for Addr {
    fn from(address: SocketAddr) -> Addr {
        Addr::Inet(address)
    }
}

impl From<PathBuf> for Addr {
    fn from(path: PathBuf) -> Addr {
        Addr::Unix(Some(path))
    }
}

impl std::fmt::Display for Addr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Addr::Inet(inet) => inet.fmt(f),
            Addr::Unix(Some(path)) => write!(f, "unix:{}", path.display()),
            Addr::Unix(None) => f.write_str("unix:(unnamed)"),
        }
    }
}
