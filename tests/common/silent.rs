//! Addresses that do not answer, each in its own way.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use callboard::Address;
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::task::{AbortHandle, JoinSet};

fn bound() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// Refuses connections: the port is bound, so that no other process gets it, and not listening.
pub struct Refusing {
    socket: Socket,
    pub address: Address,
}

impl Refusing {
    pub fn new() -> Self {
        let (socket, address) = bound();
        Self { socket, address: address.try_into().unwrap() }
    }

    pub fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().as_socket().unwrap().port()
    }
}

/// Lets attempts to connect hang: its queue of connections is full and never accepted from, so the system drops further
/// ones.
pub struct Deaf {
    _socket: Socket,
    _queue: Vec<Socket>,
    pub address: Address,
}

impl Deaf {
    pub fn new() -> Self {
        let (socket, address) = bound();
        socket.listen(0).unwrap();
        Self { _queue: full(address), _socket: socket, address: address.try_into().unwrap() }
    }
}

/// Connections that are not accepted, until there is no room for one more.
fn full(address: SocketAddr) -> Vec<Socket> {
    let connecting = |_| {
        let one = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        one.set_nonblocking(true).unwrap();
        // The error is "in progress", with or without room in the queue.
        let _ = one.connect(&address.into());
        one
    };
    (0..4).map(connecting).collect()
}

/// A port at which all [addresses](loopback) of this host let attempts to connect hang, in the same way as [`Deaf`].
pub struct DeafEverywhere {
    _socket: Socket,
    _queue: Vec<Socket>,
    port: u16,
}

impl DeafEverywhere {
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // All addresses, on this device alone.
        socket.bind_device(Some(b"lo")).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into()).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        socket.listen(0).unwrap();
        Self { _queue: full((Ipv4Addr::LOCALHOST, port).into()), _socket: socket, port }
    }

    pub fn port(&self) -> u16 {
        self.port
    }
}

/// The addresses of this host, 2^24 of them, without the first ones.
pub fn loopback(port: u16) -> impl Iterator<Item = SocketAddr> {
    let first = u32::from(Ipv4Addr::new(127, 1, 0, 1));
    (first..).map(move |ip| (Ipv4Addr::from(ip), port).into())
}

/// Accepts connections, sends the same bytes to each, and then is silent or closes.
pub struct Odd {
    pub address: Address,
    accepted: Arc<AtomicUsize>,
    task: AbortHandle,
}

/// An empty SETTINGS frame of HTTP/2.
pub const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

impl Odd {
    /// Never sends a byte.
    pub async fn silent() -> Self {
        Self::start(b"", false).await
    }

    /// Sends this and closes its side of the connection. It reads what the client sends, so that the client receives
    /// the bytes: a socket that is closed with unread data is reset.
    pub async fn hanging_up(after: &'static [u8]) -> Self {
        Self::start(after, true).await
    }

    async fn start(word: &'static [u8], hang_up: bool) -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&accepted);
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                open.spawn(async move {
                    // These fail only if the client has gone.
                    let _ = socket.write_all(word).await;
                    if hang_up {
                        let _ = socket.shutdown().await;
                    }
                    let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
                });
            }
        });
        Self { address: address.try_into().unwrap(), accepted, task: task.abort_handle() }
    }

    /// The number of connections so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        self.task.abort();
    }
}
