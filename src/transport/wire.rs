//! What has really been written to and read from a socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The length of the client's preface, which stands before the first frame.
const PREFACE: usize = 24;
const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 1;

/// What a connection's socket has seen, shared with those who ask.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The highest stream whose HEADERS frame was begun to be written. A request of a higher stream has never left.
    written: AtomicU32,
    read: AtomicU64,
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
}

/// A socket that notes what passes through it. It answers "was this request ever sent?" exactly: when a connection
/// dies, `h2` can only say that it died.
#[derive(Debug)]
pub(super) struct Wire<S> {
    socket: S,
    seen: Arc<Seen>,
    frames: Frames,
}

impl<S> Wire<S> {
    pub(super) fn new(socket: S, seen: Arc<Seen>) -> Self {
        Self { socket, seen, frames: Frames::default() }
    }

    fn wrote<'a>(&mut self, buffers: impl Iterator<Item = &'a [u8]>, mut count: usize) {
        for buffer in buffers {
            let taken = count.min(buffer.len());
            if let Some(stream) = self.frames.pass(&buffer[..taken]) {
                self.seen.written.fetch_max(stream, Ordering::Release);
            }
            count -= taken;
            if count == 0 {
                break;
            }
        }
    }
}

/// Follows the frames in a stream of bytes, by their headers alone.
#[derive(Debug)]
struct Frames {
    /// Bytes until the next frame header: the rest of the preface or of a payload.
    skip: usize,
    header: [u8; FRAME_HEADER],
    filled: usize,
}

impl Default for Frames {
    fn default() -> Self {
        Self { skip: PREFACE, header: [0; FRAME_HEADER], filled: 0 }
    }
}

impl Frames {
    /// Takes the next bytes, and gives the highest stream of which a HEADERS frame begins in them.
    fn pass(&mut self, mut bytes: &[u8]) -> Option<u32> {
        let mut highest = None;
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (FRAME_HEADER - self.filled).min(bytes.len());
            self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == FRAME_HEADER {
                let [l0, l1, l2, kind, _flags, s0, s1, s2, s3] = self.header;
                self.skip = u32::from_be_bytes([0, l0, l1, l2]) as usize;
                self.filled = 0;
                if kind == HEADERS {
                    highest = highest.max(Some(u32::from_be_bytes([s0 & 0x7f, s1, s2, s3])));
                }
            }
        }
        highest
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.socket).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        if read > 0 {
            self.seen.read.fetch_add(read as u64, Ordering::Relaxed);
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

    use super::*;

    fn frame(kind: u8, stream: u32, payload: usize) -> Vec<u8> {
        let mut bytes = (payload as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, 0]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(std::iter::repeat_n(0xAA, payload));
        bytes
    }

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
                begun.push((bytes.len() + FRAME_HEADER, if kind == HEADERS { stream } else { 0 }));
                bytes.extend(frame(kind, stream, payload));
            }
            let (mut parser, mut highest, mut at) = (Frames::default(), 0, 0);
            for cut in cuts.into_iter().cycle() {
                let end = (at + cut).min(bytes.len());
                highest = highest.max(parser.pass(&bytes[at..end]).unwrap_or(0));
                at = end;
                let expected = begun.iter().filter(|(complete, _)| *complete <= at).map(|(_, id)| *id).max().unwrap_or(0);
                prop_assert_eq!(highest, expected);
                if at == bytes.len() {
                    break;
                }
            }
        }
    }
}
