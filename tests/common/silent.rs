//! Addresses where nobody answers, each in its own way.

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

/// Refuses connections: the port is bound, so that nobody else gets it, and nobody listens.
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

/// Lets attempts to connect hang: its queue of connections that nobody accepts is full, so that the system drops what
/// else comes.
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

/// Connections that nobody accepts, until there is no room for one more.
fn full(address: SocketAddr) -> Vec<Socket> {
    let connecting = |_| {
        let one = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        one.set_nonblocking(true).unwrap();
        // "In progress", whether it gets a place or not.
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
        // All addresses, but of this device alone.
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

/// The addresses of this host, of which there are 2^24, but for the first ones.
pub fn loopback(port: u16) -> impl Iterator<Item = SocketAddr> {
    let first = u32::from(Ipv4Addr::new(127, 1, 0, 1));
    (first..).map(move |ip| (Ipv4Addr::from(ip), port).into())
}

/// Accepts connections, says the same to each, and then is silent or hangs up.
pub struct Odd {
    pub address: Address,
    accepted: Arc<AtomicUsize>,
    task: AbortHandle,
}

/// An empty SETTINGS frame of HTTP/2.
pub const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

impl Odd {
    /// Never says a word.
    pub async fn silent() -> Self {
        Self::start(b"", false).await
    }

    /// Says this and closes its side of the connection. It reads what comes, so that the client is sure to hear it: a
    /// socket that is closed with something unread is reset.
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
                    // All of it fails only if the client has gone.
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

    /// Connections so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        self.task.abort();
    }
}
