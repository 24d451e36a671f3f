//! Notes the frames that are written to and read from a socket.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::first_settings::FirstSettings;
use super::frames::{DATA, Frames, HEADERS, Header};
use super::reading::{Reading, UNDEFINED};
use super::seen::Seen;
use super::share::Share;

/// The length of the client's preface, which precedes the first frame.
const PREFACE: usize = 24;

/// A socket that notes the frames that pass. So "was this request ever sent?" has an exact answer: when a connection
/// dies, `h2` only reports that it died. It also notes what `h2` does not expose of the peer's frames; see [`Reading`].
#[derive(Debug)]
pub(super) struct Wire<S> {
    socket: S,
    seen: Arc<Seen>,
    sent: Frames,
    first: FirstSettings,
    reading: Reading,
    share: Share,
    /// Bytes that were read and not passed on yet, because the next byte decides about them.
    due: Due,
}

/// A frame's type and flags, if a read ended between them.
#[derive(Debug)]
enum Due {
    Nothing,
    Flags,
    Bytes([u8; 2], usize),
}

impl<S> Wire<S> {
    /// `header_list` is the largest header list that this side accepts.
    pub(super) fn new(socket: S, seen: Arc<Seen>, header_list: u32) -> Self {
        let reading = Reading::new(Arc::clone(&seen), header_list as usize);
        let first = FirstSettings::Due(header_list);
        Self { socket, seen, sent: Frames::after(PREFACE), first, reading, share: Share::default(), due: Due::Nothing }
    }

    fn wrote<'a>(&mut self, buffers: impl Iterator<Item = &'a [u8]>, mut count: usize) {
        for buffer in buffers {
            let taken = count.min(buffer.len());
            let (highest, frames) = begun(&mut self.sent, &buffer[..taken]);
            if let Some(stream) = highest {
                self.seen.note_written(stream);
            }
            self.reading.sent(frames);
            count -= taken;
            if count == 0 {
                break;
            }
        }
    }
}

/// The highest stream of which a HEADERS frame begins in these bytes, and how many frames of calls begin in them.
fn begun(frames: &mut Frames, mut bytes: &[u8]) -> (Option<u32>, u32) {
    let (mut highest, mut count) = (None, 0);
    while let Some(Header { kind, stream, .. }) = frames.header(&mut bytes) {
        if kind == HEADERS {
            highest = highest.max(Some(stream));
        }
        count += u32::from(matches!(kind, HEADERS | DATA));
    }
    (highest, count)
}

impl<S: AsyncWrite + Unpin> Wire<S> {
    /// Writes the first SETTINGS, if they are due. None if they were written before.
    fn poll_greet(&mut self, cx: &mut Context<'_>, next: &[u8]) -> Option<Poll<io::Result<usize>>> {
        // The preface, which precedes it, is treated as a payload.
        if self.sent.is_between() {
            self.first.begin(next);
        }
        let result = Pin::new(&mut self.socket).poll_write(cx, self.first.rest()?);
        if let Poll::Ready(Ok(count)) = result {
            self.first.wrote(count);
            self.wrote(std::iter::once(next), count);
        }
        Some(result)
    }
}

impl<S: AsyncRead + Unpin> Wire<S> {
    /// Reads the flags of a frame whose type is known and whose treatment depends on them. False if the peer has
    /// closed.
    fn poll_flags(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut flags = [0];
        let mut buf = ReadBuf::new(&mut flags);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buf))?;
        if buf.filled().is_empty() {
            return Poll::Ready(Ok(false));
        }
        self.seen.note_read(1);
        self.reading.pass(&mut flags)?;
        let kind = if self.reading.is_begun_empty() { UNDEFINED } else { DATA };
        self.due = Due::Bytes([kind, flags[0]], 0);
        Poll::Ready(Ok(true))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = &mut *self;
        let before = buf.filled().len();
        if let Due::Nothing = wire.due {
            ready!(wire.share.poll_read(&mut wire.socket, cx, buf))?;
            let read = &mut buf.filled_mut()[before..];
            wire.seen.note_read(read.len());
            wire.reading.pass(read)?;
            wire.share.note(read.len(), wire.reading.take_begun());
            if !wire.reading.hangs() {
                return Poll::Ready(Ok(()));
            }
            wire.due = Due::Flags;
            buf.set_filled(buf.filled().len() - 1);
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
        if let Due::Flags = wire.due
            && !ready!(wire.poll_flags(cx))?
        {
            return Poll::Ready(Ok(()));
        }
        if let Due::Bytes(bytes, at) = &mut wire.due {
            let count = buf.remaining().min(bytes.len() - *at);
            buf.put_slice(&bytes[*at..*at + count]);
            *at += count;
            if *at == bytes.len() {
                wire.due = Due::Nothing;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(result) = self.poll_greet(cx, buf) {
            return result;
        }
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
        let first = bufs.iter().find(|buf| !buf.is_empty());
        if let Some(result) = first.and_then(|buf| self.poll_greet(cx, buf)) {
            return result;
        }
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
    use std::collections::VecDeque;

    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    use super::super::frames::tests::{frame, in_pieces};
    use super::*;

    /// A socket that yields these pieces, one at a time.
    #[derive(Debug)]
    struct Pieces(VecDeque<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            if let Some(mut piece) = self.0.pop_front() {
                let rest = piece.split_off(piece.len().min(buf.remaining()));
                buf.put_slice(&piece);
                if !rest.is_empty() {
                    self.0.push_front(rest);
                }
            }
            Poll::Ready(Ok(()))
        }
    }

    /// All that is read, with buffers of these sizes. A read of 0 bytes is the end.
    async fn read_all(bytes: &[u8], cuts: &[usize], rooms: &[usize]) -> Vec<u8> {
        let pieces = in_pieces(bytes, cuts).map(|(piece, _)| piece.to_vec()).collect();
        let mut wire = Wire::new(Pieces(pieces), Arc::default(), 1 << 20);
        let mut all = Vec::new();
        for room in rooms.iter().cycle() {
            let mut buf = vec![0; *room];
            match wire.read(&mut buf).await.unwrap() {
                0 => break,
                count => all.extend(&buf[..count]),
            }
        }
        all
    }

    proptest! {
        /// However the bytes are split, a stream counts as sent from the moment its frame header is complete.
        #[test]
        fn headers_are_found_however_the_writes_are_cut(
            frames in proptest::collection::vec((0u8..3, 0u32..100, 0usize..50), 1..20),
            cuts in proptest::collection::vec(1usize..30, 1..200),
        ) {
            let mut bytes = vec![b'P'; PREFACE];
            let mut starts = Vec::new();
            for (kind, stream, payload) in frames {
                starts.push((bytes.len() + 9, if kind == HEADERS { stream } else { 0 }));
                bytes.extend(frame(kind, 0, stream, &vec![0xAA; payload]));
            }
            let (mut parser, mut highest) = (Frames::after(PREFACE), 0);
            for (piece, at) in in_pieces(&bytes, &cuts) {
                highest = highest.max(begun(&mut parser, piece).0.unwrap_or(0));
                let expected = starts.iter().filter(|(complete, _)| *complete <= at).map(|(_, id)| *id).max().unwrap_or(0);
                prop_assert_eq!(highest, expected);
            }
        }

        /// However the bytes are split and however large the buffers are, the result is what was sent, except for the
        /// type of empty DATA frames.
        #[test]
        fn what_is_read_is_what_came(
            frames in proptest::collection::vec((0u8..2, 0u8..2, 0usize..3), 1..30),
            cuts in proptest::collection::vec(1usize..12, 1..100),
            rooms in proptest::collection::vec(1usize..12, 1..100),
        ) {
            let (mut bytes, mut expected) = (Vec::new(), Vec::new());
            for (kind, flags, length) in frames {
                let empty = kind == DATA && flags == 0 && length == 0;
                bytes.extend(frame(kind, flags, 1, &vec![0; length]));
                expected.extend(frame(if empty { UNDEFINED } else { kind }, flags, 1, &vec![0; length]));
            }
            let read = futures_util::FutureExt::now_or_never(read_all(&bytes, &cuts, &rooms));
            prop_assert_eq!(read, Some(expected));
        }
    }
}
