//! What has really been written to and read from a socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{Frames, HEADERS, HeaderListLimit, Part};

/// The length of the client's preface, which stands before the first frame.
const PREFACE: usize = 24;

/// What a connection's socket has seen, shared with those who ask.
#[derive(Debug)]
pub(super) struct Seen {
    /// The highest stream whose HEADERS frame was begun to be written. A request of a higher stream has never left.
    written: AtomicU32,
    read: AtomicU64,
    /// What the peer says that a request's header list may be at most. As long as it says nothing, the highest number:
    /// that much fits into no list.
    header_list: AtomicU32,
}

impl Default for Seen {
    fn default() -> Self {
        Self { written: AtomicU32::new(0), read: AtomicU64::new(0), header_list: AtomicU32::new(u32::MAX) }
    }
}

impl Seen {
    /// Whether anything of this stream has left this process.
    pub(super) fn has_left(&self, stream: u32) -> bool {
        stream <= self.written.load(Ordering::Acquire)
    }

    /// Bytes read so far.
    pub(super) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// The largest header list that the peer takes: SETTINGS_MAX_HEADER_LIST_SIZE.
    pub(super) fn header_list_limit(&self) -> u32 {
        self.header_list.load(Ordering::Relaxed)
    }
}

/// A socket that notes what passes through it. It answers "was this request ever sent?" exactly: when a connection
/// dies, `h2` can only say that it died. And it knows a limit of the peer's that `h2` keeps to itself.
#[derive(Debug)]
pub(super) struct Wire<S> {
    socket: S,
    seen: Arc<Seen>,
    sent: Frames,
    limit: HeaderListLimit,
}

impl<S> Wire<S> {
    pub(super) fn new(socket: S, seen: Arc<Seen>) -> Self {
        Self { socket, seen, sent: Frames::after(PREFACE), limit: HeaderListLimit::default() }
    }

    fn wrote<'a>(&mut self, buffers: impl Iterator<Item = &'a [u8]>, mut count: usize) {
        for buffer in buffers {
            let taken = count.min(buffer.len());
            if let Some(stream) = highest_begun(&mut self.sent, &buffer[..taken]) {
                self.seen.written.fetch_max(stream, Ordering::Release);
            }
            count -= taken;
            if count == 0 {
                break;
            }
        }
    }
}

/// The highest stream of which a HEADERS frame begins in the next bytes.
fn highest_begun(frames: &mut Frames, mut bytes: &[u8]) -> Option<u32> {
    let mut highest = None;
    while let Some(part) = frames.next(&mut bytes) {
        if let Part::Header { kind: HEADERS, stream, .. } = part {
            highest = highest.max(Some(stream));
        }
    }
    highest
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.socket).poll_read(cx, buf);
        let read = &buf.filled()[before..];
        if !read.is_empty() {
            self.seen.read.fetch_add(read.len() as u64, Ordering::Relaxed);
            if let Some(limit) = self.limit.pass(read) {
                self.seen.header_list.store(limit, Ordering::Relaxed);
            }
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = result {
            self.wrote(std::iter::once(buf), count);
        }
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(count)) = result {
            self.wrote(bufs.iter().map(|buf| &**buf), count);
        }
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::frames::tests::{frame, in_pieces};
    use super::*;

    proptest! {
        /// However the bytes are cut, a stream counts as sent from the moment its frame header is complete.
        #[test]
        fn headers_are_found_however_the_writes_are_cut(
            frames in proptest::collection::vec((0u8..3, 0u32..100, 0usize..50), 1..20),
            cuts in proptest::collection::vec(1usize..30, 1..200),
        ) {
            let mut bytes = vec![b'P'; PREFACE];
            let mut begun = Vec::new();
            for (kind, stream, payload) in frames {
                begun.push((bytes.len() + 9, if kind == HEADERS { stream } else { 0 }));
                bytes.extend(frame(kind, 0, stream, &vec![0xAA; payload]));
            }
            let (mut parser, mut highest) = (Frames::after(PREFACE), 0);
            for (piece, at) in in_pieces(&bytes, &cuts) {
                highest = highest.max(highest_begun(&mut parser, piece).unwrap_or(0));
                let expected = begun.iter().filter(|(complete, _)| *complete <= at).map(|(_, id)| *id).max().unwrap_or(0);
                prop_assert_eq!(highest, expected);
            }
        }
    }
}
