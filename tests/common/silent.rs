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
    _socket: Socket,
    pub address: Address,
}

impl Refusing {
    pub fn new() -> Self {
        let (socket, address) = bound();
        Self { _socket: socket, address: address.into() }
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
        let queue = (0..4).map(|_| {
            let one = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            one.set_nonblocking(true).unwrap();
            // "In progress", whether it gets a place or not.
            let _ = one.connect(&address.into());
            one
        });
        Self { _queue: queue.collect(), _socket: socket, address: address.into() }
    }
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
        Self { address: address.into(), accepted, task: task.abort_handle() }
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
