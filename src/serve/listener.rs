//! Listeners of servers.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use callboard_core::{Address, Error, ErrorKind, Result};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use tokio::net::{UnixListener, UnixStream};

use self::sealed::Sealed;

/// A listener of a server: tokio's `TcpListener` or, on Unix, its `UnixListener`.
pub trait Listener: Sealed + fmt::Debug + Send + Unpin + 'static {
    /// The type of an accepted connection.
    type Connection: Send + 'static;

    /// Accepts a connection. A TCP connection has `TCP_NODELAY`, so it sends small messages at once.
    ///
    /// # Errors
    /// The system's error. The listener goes on listening.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Connection>>;
}

pub(super) mod sealed {
    use std::io;

    use super::Bound;

    pub trait Sealed {
        fn bound(&self) -> io::Result<Bound>;
    }
}

/// Where a listener is bound.
#[derive(Clone, Debug)]
pub enum Bound {
    /// An IPv4-mapped IPv6 address (`[::ffff:10.0.0.7]`) is stored as the IPv4 address.
    Tcp { address: SocketAddr, only_v6: bool },
    /// The socket has a name that clients can dial.
    Unix(Address),
}

impl Bound {
    pub(super) fn of(listener: &impl Listener) -> Result<Self> {
        let nowhere =
            |error: io::Error| Error::new(ErrorKind::Unavailable, "the listener has no address").with_source(error);
        listener.bound().map_err(nowhere)
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { address, .. } => address.fmt(f),
            Self::Unix(address) => address.fmt(f),
        }
    }
}

impl Sealed for TcpListener {
    fn bound(&self) -> io::Result<Bound> {
        let address = self.local_addr()?;
        let only_v6 = address.is_ipv6() && SockRef::from(self).only_v6()?;
        let ip = address.ip().to_canonical();
        // A new `SocketAddr` has no zone, so an IPv6 address is kept as it is.
        let address = if ip.is_ipv4() { SocketAddr::new(ip, address.port()) } else { address };
        Ok(Bound::Tcp { address, only_v6 })
    }
}

impl Listener for TcpListener {
    type Connection = TcpStream;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        Self::poll_accept(self, cx).map_ok(|(connection, _)| {
            // The connection may have ended by now. A read from it will return the error.
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!(%error, "a new connection is gone already");
            }
            connection
        })
    }
}

#[cfg(unix)]
impl Sealed for UnixListener {
    fn bound(&self) -> io::Result<Bound> {
        let bound = self.local_addr()?;
        let address = match (bound.as_pathname(), abstract_name(&bound)) {
            // The path is absolute, or relative to the current directory.
            (Some(path), _) => std::path::absolute(path).and_then(|path| Address::unix(path).map_err(io::Error::other)),
            (None, Some(name)) => Address::unix_abstract(name).map_err(io::Error::other),
            (None, None) => Err(io::Error::other("a Unix socket without a name cannot be dialled")),
        };
        address.map(Bound::Unix)
    }
}

/// None if the socket has no abstract name, or one that is not UTF-8, which an address cannot express.
#[cfg(unix)]
fn abstract_name(bound: &tokio::net::unix::SocketAddr) -> Option<String> {
    #[cfg(target_os = "linux")]
    return bound.as_abstract_name().and_then(|name| String::from_utf8(name.to_owned()).ok());
    #[cfg(not(target_os = "linux"))]
    return None;
}

#[cfg(unix)]
impl Listener for UnixListener {
    type Connection = UnixStream;

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<UnixStream>> {
        Self::poll_accept(self, cx).map_ok(|(connection, _)| connection)
    }
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};

    use super::*;

    /// An IPv6 listener at this address, which accepts IPv4 too unless `only_v6` is set.
    fn listener(at: &str, only_v6: bool) -> TcpListener {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None).expect("a socket");
        socket.set_only_v6(only_v6).expect("a new socket");
        socket.bind(&at.parse::<SocketAddr>().expect(at).into()).expect("it is this machine's");
        socket.listen(1).expect("it is bound");
        socket.set_nonblocking(true).expect("a socket");
        TcpListener::from_std(socket.into()).expect("it listens")
    }

    #[tokio::test]
    async fn where_a_socket_is_bound_is_said_as_what_it_means() {
        for (at, only_v6, ip) in [
            ("[::]:0", true, "::"),
            ("[::]:0", false, "::"),
            ("[::1]:0", true, "::1"),
            ("[::ffff:0.0.0.0]:0", false, "0.0.0.0"),
            ("[::ffff:127.0.0.1]:0", false, "127.0.0.1"),
        ] {
            let listener = listener(at, only_v6);
            let Ok(Bound::Tcp { address, only_v6: told }) = Bound::of(&listener) else { panic!("{at} is bound") };
            assert_eq!((address.ip().to_string().as_str(), told), (ip, only_v6), "{at}");
            assert_eq!(address.port(), listener.local_addr().expect("it is bound").port());
        }
    }
}
