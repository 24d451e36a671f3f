//! The server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

use crate::client::MESSAGE_LIMIT;
use crate::connection::Connection;
use crate::pb::echo_server;
use crate::service::Handlers;
use crate::shared::Shared;

/// An echo server on a real TCP socket, in this process.
///
/// It ends in one of three ways: [`stop`](Self::stop) finishes the calls in flight, [`kill`](Self::kill) does not, and
/// dropping it is a kill that is not waited for, so that a failed test leaves nothing behind.
///
/// ```
/// use callboard_echo::{EchoServer, client, pb::EchoRequest};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = EchoServer::start("a").await?;
/// let channel = tonic::transport::Endpoint::new(format!("http://{}", server.address()))?.connect().await?;
/// let answer = client(channel).unary(EchoRequest { payload: b"hello".into(), ..Default::default() }).await?;
/// assert_eq!(answer.into_inner().server, "a");
/// assert_eq!(server.calls(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct EchoServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Taken by `stop`.
    graceful: Option<oneshot::Sender<()>>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl EchoServer {
    /// Starts a server on a free port of 127.0.0.1. It accepts connections once this returns. `id` is what it answers
    /// as [`server`](crate::pb::EchoResponse::server).
    ///
    /// # Errors
    /// What the system says if no port can be bound.
    pub async fn start(id: impl Into<String>) -> io::Result<Self> {
        Self::start_at(id, (Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Starts a server on this address, which may be the one of a server that has just ended.
    ///
    /// # Errors
    /// What the system says if the address cannot be bound.
    pub async fn start_at(id: impl Into<String>, address: SocketAddr) -> io::Result<Self> {
        Self::start_with(id, address, |server| server).await
    }

    /// Starts a server on this address with settings of tonic's own, such as `max_concurrent_streams`.
    ///
    /// # Errors
    /// What the system says if the address cannot be bound.
    pub async fn start_with(
        id: impl Into<String>,
        address: SocketAddr,
        configure: impl FnOnce(Server) -> Server,
    ) -> io::Result<Self> {
        Self::start_on(id, TcpListener::bind(address).await?, configure)
    }

    /// Starts a server on a listener that is there already.
    ///
    /// # Errors
    /// What the system says if the listener has no address.
    pub fn start_on(
        id: impl Into<String>,
        listener: TcpListener,
        configure: impl FnOnce(Server) -> Server,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(id.into()));
        let service = echo_server::EchoServer::new(Handlers(Arc::clone(&shared)))
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT);
        let connections = TcpListenerStream::new(listener).map({
            let shared = Arc::clone(&shared);
            move |accepted| accepted.map(|tcp| Connection::new(tcp, &shared))
        });
        let (graceful, asked) = oneshot::channel();
        // A sender that is dropped asks as well: that happens only when the server is killed.
        let asked = async { drop(asked.await) };
        let server = configure(Server::builder());
        let serving = tokio::spawn(server.serve_with_incoming_shutdown(service, connections, asked));
        Ok(Self { address, shared, graceful: Some(graceful), serving })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who it says it is.
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// Calls that have arrived, ended ones included.
    pub fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::SeqCst)
    }

    /// Calls whose handler, or stream of answers, is running.
    pub fn in_flight(&self) -> u64 {
        self.shared.in_flight.load(Ordering::SeqCst)
    }

    /// Connections that are open.
    pub fn connections(&self) -> u64 {
        self.shared.open().len() as u64
    }

    /// Connections that were ever accepted.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Returns once the counters are as `condition` wants them. It is asked at once and after each change.
    ///
    /// There is no bound but the caller's own, for instance `tokio::time::timeout`.
    ///
    /// # Cancel safety
    /// Cancel-safe: it changes nothing.
    pub async fn until(&self, condition: impl Fn(&Self) -> bool) {
        loop {
            // The future exists before the condition is asked, so that a change in between is not missed.
            let changed = self.shared.changed.notified();
            if condition(self) {
                return;
            }
            changed.await;
        }
    }

    /// Stops gracefully: accepts no more connections, sends GOAWAY on those that are open, and returns once the calls
    /// in flight have ended and every connection is closed.
    ///
    /// # Cancel safety
    /// Dropped before it returns, it kills the server: that is how a caller bounds it.
    pub async fn stop(mut self) {
        if let Some(graceful) = self.graceful.take() {
            // The receiver is gone only if serving has ended already.
            let _ = graceful.send(());
        }
        let _ = (&mut self.serving).await;
        self.until(|server| server.connections() == 0).await;
    }

    /// Cuts the server off, as if its process had died: its listener closes and its connections are reset with calls
    /// in flight, without GOAWAY. Returns once they are; from then on connecting to it is refused.
    ///
    /// # Cancel safety
    /// Dropped before it returns, the server dies all the same.
    pub async fn kill(mut self) {
        self.cut();
        // Awaited for the listener, which closes with the task.
        let _ = (&mut self.serving).await;
        self.until(|server| server.connections() == 0 && server.in_flight() == 0).await;
    }

    /// Resets the connections that are open, with calls in flight and without GOAWAY, and goes on listening. Returns once
    /// they are closed.
    ///
    /// # Cancel safety
    /// Dropped before it returns, the connections are reset all the same.
    pub async fn reset_connections(&self) {
        let next = self.shared.cut_open();
        self.until(|server| server.shared.open().first().is_none_or(|oldest| *oldest >= next)).await;
    }

    /// From here on nothing moves on any connection, in either direction, as if the process were suspended: new ones
    /// are accepted and hear nothing.
    pub fn pause(&self) {
        self.shared.pause(true);
    }

    /// Ends a [pause](Self::pause).
    pub fn resume(&self) {
        self.shared.pause(false);
    }

    /// Ends the listener and every connection, without waiting until they have ended.
    fn cut(&self) {
        // First the switch: ending the task makes tonic send a GOAWAY on each connection, which must not get out.
        self.shared.kill();
        self.serving.abort();
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.cut();
    }
}
