//! The server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{JoinHandle, JoinSet};

use crate::peer::Peer;
use crate::stats::{Counters, Stats};

/// A server on a port of 127.0.0.1 that gives each connection to a script. Dropping it closes its listener and ends its
/// scripts; [`stop`](Self::stop) waits for that.
#[derive(Debug)]
pub struct RawServer {
    address: SocketAddr,
    counters: Arc<Counters>,
    task: JoinHandle<()>,
}

/// A well-behaved script: answers each request that has come to its end with one message from `server`.
pub async fn serve(server: &str, mut peer: Peer) {
    peer.settings(&[]);
    while let Some(request) = peer.request().await {
        peer.answer(request.stream, server);
    }
}

impl RawServer {
    /// Starts a server on a free port.
    ///
    /// # Errors
    /// What the system says if no port can be bound.
    pub async fn start<F, S>(script: F) -> io::Result<Self>
    where
        F: Fn(Peer) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), script).await
    }

    /// Starts a server on this address, which may be the one of a server that has just ended.
    ///
    /// # Errors
    /// What the system says if the address cannot be bound.
    pub async fn start_at<F, S>(address: SocketAddr, script: F) -> io::Result<Self>
    where
        F: Fn(Peer) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        Self::run(TcpListener::bind(address).await?, script)
    }

    /// Starts a server whose sockets take in little that is not read.
    ///
    /// # Errors
    /// What the system says if no port can be bound.
    pub async fn start_narrow<F, S>(script: F) -> io::Result<Self>
    where
        F: Fn(Peer) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(4 << 10)?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Self::run(socket.listen(16)?, script)
    }

    fn run<F, S>(listener: TcpListener, script: F) -> io::Result<Self>
    where
        F: Fn(Peer) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr()?;
        let counters = Arc::new(Counters::default());
        let counted = Arc::clone(&counters);
        let task = tokio::spawn(async move {
            // Ends its tasks when it is dropped.
            let mut scripts = JoinSet::new();
            loop {
                tokio::select! {
                    Ok((socket, _)) = listener.accept() => {
                        scripts.spawn(script(Peer::new(socket, Arc::clone(&counted))));
                    }
                    Some(ended) = scripts.join_next() => {
                        // A script is part of a test: its assertions are the test's.
                        if let Err(error) = ended && error.is_panic() {
                            std::panic::resume_unwind(error.into_panic());
                        }
                    }
                }
            }
        });
        Ok(Self { address, counters, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has counted so far.
    pub fn stats(&self) -> Stats {
        self.counters.read()
    }

    /// Returns once the figures are as `condition` wants them. There is no bound but the caller's own.
    ///
    /// # Cancel safety
    /// Cancel-safe: it only looks.
    pub async fn until(&self, condition: impl Fn(&Stats) -> bool) {
        loop {
            // The future exists before the condition is asked, so that a change in between is not missed.
            let changed = self.counters.changed.notified();
            if condition(&self.stats()) {
                return;
            }
            changed.await;
        }
    }

    /// Closes the listener and ends the scripts; their connections close. Returns once that has happened: from then on
    /// connecting is refused.
    pub async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.until(|stats| stats.connections == 0).await;
    }
}

impl Drop for RawServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
