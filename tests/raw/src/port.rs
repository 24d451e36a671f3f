//! Ports that stay ours.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A free port of 127.0.0.1, kept for whoever is told its number: while it listens, while it does not, and when it
/// listens again. Dropping this gives it back.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    /// Bound, but never listening: on Linux the port is given to nobody else then, and yet can be listened on by
    /// whoever asks for it by number. Other systems would not allow that; there the port is only noted.
    _kept: Option<TcpSocket>,
}

impl Port {
    /// Finds one.
    ///
    /// # Errors
    /// What the system says if no port can be bound.
    pub fn free() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(Self { address: socket.local_addr()?, _kept: cfg!(target_os = "linux").then_some(socket) })
    }

    /// The address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.address.port()
    }
}
