//! An accepted connection that the server's kill switch ends.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::shared::Shared;

/// A TCP connection that is counted while it is open, and that fails in every direction once its server is killed.
pub(crate) struct Connection {
    tcp: TcpStream,
    killed: Pin<Box<dyn Future<Output = ()> + Send>>,
    shared: Arc<Shared>,
}

impl Connection {
    pub(crate) fn new(tcp: TcpStream, shared: &Arc<Shared>) -> Self {
        // Without delay, as every gRPC server has it. A failure means that the peer has gone; reading will say so.
        let _ = tcp.set_nodelay(true);
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        shared.connections.fetch_add(1, Ordering::SeqCst);
        shared.changed.notify_waiters();
        Self { tcp, killed: Box::pin(Arc::clone(shared).until_killed()), shared: Arc::clone(shared) }
    }

    /// Fails if the server is killed.
    fn alive(&self) -> io::Result<()> {
        if self.shared.killed() { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.shared.killed() {
            // With this, closing sends RST instead of FIN: to the peer it looks as if the process had died.
            let _ = self.tcp.set_zero_linger();
        }
        self.shared.connections.fetch_sub(1, Ordering::SeqCst);
        self.shared.changed.notify_waiters();
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.alive()?;
        if let Poll::Ready(read) = Pin::new(&mut self.tcp).poll_read(cx, buf) {
            return Poll::Ready(read);
        }
        // An HTTP/2 connection always has a read pending, so this is where the switch wakes it.
        self.killed.as_mut().poll(cx).map(|()| Err(io::ErrorKind::ConnectionReset.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.alive()?;
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.alive()?;
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.alive()?;
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.alive()?;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.tcp.connect_info()
    }
}
