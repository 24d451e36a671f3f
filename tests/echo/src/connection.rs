//! An accepted connection that its server can cut and pause.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::futures::OwnedNotified;
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::shared::{Accepted, Shared};

/// A TCP connection that is counted while it is open, that fails in every direction once it is cut, and moves nothing
/// while its server is paused.
pub(crate) struct Connection {
    tcp: TcpStream,
    switched: Pin<Box<OwnedNotified>>,
    /// Dropped after `tcp`: what does not count any more is closed.
    accepted: Accepted,
}

impl Connection {
    pub(crate) fn new(tcp: TcpStream, shared: &Arc<Shared>) -> Self {
        // Without delay, as every gRPC server has it. A failure means that the peer has gone; reading will say so.
        let _ = tcp.set_nodelay(true);
        Self { tcp, switched: Box::pin(shared.switched()), accepted: shared.accept() }
    }

    fn is_cut(&self) -> bool {
        self.accepted.shared.is_cut(self.accepted.number)
    }

    /// Reads or writes, as far as the switches allow. One task does both, and is woken when they change.
    fn poll_moving<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut move_bytes: impl FnMut(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        loop {
            if self.is_cut() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            if !self.accepted.shared.is_paused()
                && let Poll::Ready(moved) = move_bytes(Pin::new(&mut self.tcp), cx)
            {
                return Poll::Ready(moved);
            }
            ready!(self.switched.as_mut().poll(cx));
            // The new future exists before the switches are read, so that no change is missed.
            self.switched = Box::pin(self.accepted.shared.switched());
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.is_cut() {
            // With this, closing sends RST instead of FIN: to the peer it looks as if the process had died.
            let _ = self.tcp.set_zero_linger();
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_moving(cx, |tcp, cx| tcp.poll_read(cx, buf))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_moving(cx, |tcp, cx| tcp.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_moving(cx, |tcp, cx| tcp.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_moving(cx, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_moving(cx, AsyncWrite::poll_shutdown)
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.tcp.connect_info()
    }
}
