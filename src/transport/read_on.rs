//! A socket that is read to its end even after writing has failed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long reading goes on once writing has failed, if the socket does not report its end. Sockets of the operating
/// system report it at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// Delays the failure of writes until there is nothing more to read.
///
/// A peer that closes its socket while this side still writes causes a reset. Data that it sent before is still unread
/// then. It may contain the GOAWAY that says which requests were not processed. `h2` gives a connection up with the
/// first failed write. So the failure is hidden from it, later writes are discarded, and reading ends with the failure.
/// grpc-go reads on as well.
#[derive(Debug)]
pub(super) struct ReadOn<S> {
    socket: S,
    failed: Option<Failed>,
}

/// Why writing has failed, and when to stop waiting for more to read.
#[derive(Debug)]
struct Failed {
    why: Option<io::Error>,
    patience: Pin<Box<Sleep>>,
}

impl Failed {
    fn error(&mut self) -> io::Error {
        self.why.take().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl<S> ReadOn<S> {
    pub(super) fn new(socket: S) -> Self {
        Self { socket, failed: None }
    }

    /// Handles the result of a write. A failure is kept, and reported as if `all` had been written.
    fn keep<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>, all: T) -> Poll<io::Result<T>> {
        let Poll::Ready(Err(why)) = written else { return written };
        let mut patience = Box::pin(sleep(PATIENCE));
        // The sleep has just begun; this registers the waker.
        let _ = patience.as_mut().poll(cx);
        self.failed = Some(Failed { why: Some(why), patience });
        Poll::Ready(Ok(all))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadOn<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(cx, buf);
        let Some(failed) = &mut self.failed else { return read };
        match read {
            Poll::Ready(Ok(())) if buf.filled().len() > before => return read,
            Poll::Ready(_) => {}
            Poll::Pending => ready!(failed.patience.as_mut().poll(cx)),
        }
        Poll::Ready(Err(failed.error()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadOn<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.failed.is_some() {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.keep(cx, written, buf.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = || bufs.iter().map(|buf| buf.len()).sum();
        if self.failed.is_some() {
            return Poll::Ready(Ok(all()));
        }
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.keep(cx, written, all())
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.failed.is_some() {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.keep(cx, flushed, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.failed.is_some() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;

    /// A socket that can be read but not written.
    struct Deaf(DuplexStream);

    impl AsyncRead for Deaf {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Deaf {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn what_the_peer_has_said_is_read_before_the_failure_is_told() {
        let (near, mut far) = duplex(1024);
        let mut socket = ReadOn::new(Deaf(near));
        far.write_all(b"goodbye").await.expect("there is room");
        drop(far);
        for _ in 0..3 {
            socket.write_all(b"hello").await.expect("the failure is kept");
        }
        let mut read = Vec::new();
        let error = socket.read_to_end(&mut read).await.expect_err("the failure is told");
        assert_eq!((read.as_slice(), error.kind()), (&b"goodbye"[..], io::ErrorKind::ConnectionReset));
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_neither_takes_nor_gives_is_not_waited_for_long() {
        let (near, _far) = duplex(1024);
        let (mut socket, begun) = (ReadOn::new(Deaf(near)), Instant::now());
        socket.write_all(b"hello").await.expect("the failure is kept");
        let error = socket.read_u8().await.expect_err("the failure is told");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert!((PATIENCE..PATIENCE * 2).contains(&begun.elapsed()), "after {:?}", begun.elapsed());
    }

    #[tokio::test]
    async fn a_socket_that_can_be_written_is_as_it_was() {
        let (near, mut far) = duplex(1024);
        let mut socket = ReadOn::new(near);
        socket.write_all(b"hello").await.expect("there is room");
        far.write_all(b"goodbye").await.expect("there is room");
        drop(socket.shutdown().await);
        drop(far);
        let mut read = Vec::new();
        socket.read_to_end(&mut read).await.expect("an end without a failure");
        assert_eq!(read, b"goodbye");
    }
}
