//! How much is read in one poll.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

/// The limits of one poll of a connection, in bytes, in frames, and in frames that carry nothing. One read may exceed
/// them. `h2` reads as long as there is anything, which can be a hundred thousand small frames in one poll. All other
/// tasks of the thread would wait meanwhile.
const BYTES: usize = 512 << 10;
const FRAMES: u32 = 512;
const EMPTY_FRAMES: u32 = 64;

/// The limit of one read after a read with an empty frame for each [`SMALL`] bytes.
const PIECE: usize = 1 << 10;
const SMALL: usize = 32;

/// What has been read since the task last yielded.
#[derive(Debug, Default)]
pub(super) struct Share {
    bytes: usize,
    frames: Begun,
    /// Whether the last read brought mostly frames that carry nothing.
    small: bool,
}

/// Frames that have begun.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Begun {
    pub(super) all: u32,
    /// How many of them carry nothing, beyond those that calls permit.
    pub(super) empty: u32,
}

impl Share {
    /// Reads, unless the limits are reached. Then it yields: the task is woken again after all other ready tasks, and
    /// after the runtime has polled for I/O.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        socket: &mut S,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.bytes >= BYTES || self.frames.all >= FRAMES || self.frames.empty >= EMPTY_FRAMES {
            self.end();
            ready!(pin!(tokio::task::yield_now()).poll(cx));
        }
        let read = match self.small && buf.remaining() > PIECE {
            false => Pin::new(socket).poll_read(cx, buf),
            true => {
                let mut piece = ReadBuf::new(buf.initialize_unfilled_to(PIECE));
                let read = Pin::new(socket).poll_read(cx, &mut piece);
                let count = piece.filled().len();
                buf.advance(count);
                read
            }
        };
        if read.is_pending() {
            self.end();
        }
        read
    }

    /// Notes the result of a read.
    pub(super) fn note(&mut self, bytes: usize, frames: Begun) {
        self.bytes += bytes;
        self.frames.all += frames.all;
        self.frames.empty += frames.empty;
        self.small = frames.empty as usize * SMALL > bytes;
    }

    fn end(&mut self) {
        (self.bytes, self.frames) = (0, Begun::default());
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// How many bytes are read before the task yields, and in how many reads, for this size of frames, this buffer, and
    /// frames that are empty or not.
    async fn read_in_one_go(frame: usize, room: usize, empty: bool) -> (usize, usize) {
        let (mut share, mut socket) = (Share::default(), tokio::io::repeat(0));
        let (mut bytes, mut reads, mut buffer) = (0, 0, vec![0; room]);
        loop {
            let mut buf = ReadBuf::new(&mut buffer);
            let read = std::future::poll_fn(|cx| Poll::Ready(share.poll_read(&mut socket, cx, &mut buf))).await;
            if read.is_pending() {
                return (bytes, reads);
            }
            let count = buf.filled().len();
            share.note(count, begun(count / frame, empty));
            (bytes, reads) = (bytes + count, reads + 1);
        }
    }

    fn begun(frames: usize, empty: bool) -> Begun {
        let all = u32::try_from(frames).expect("a number of frames");
        Begun { all, empty: if empty { all } else { 0 } }
    }

    #[test]
    fn others_have_their_turn_after_so_many_bytes_or_frames() {
        let read = |frame, room, empty| read_in_one_go(frame, room, empty).now_or_never().expect("it does not wait");
        assert_eq!(read(16_393, 16_393, false), (32 * 16_393, 32));
        assert_eq!(read(16, 8 << 10, false), (8 << 10, 1));
        // The first read has to be seen.
        assert_eq!(read(16, 8 << 10, true), (8 << 10, 1));
        assert_eq!(read(16, 1 << 10, true), (1 << 10, 1));
    }

    #[tokio::test]
    async fn after_the_others_it_goes_on_and_where_frames_carry_nothing_with_small_pieces() {
        for (empty, then) in [(false, 8 << 10), (true, PIECE)] {
            let (mut share, mut socket, mut buffer) = (Share::default(), tokio::io::repeat(0), vec![0; 8 << 10]);
            let mut read = async || {
                let mut buf = ReadBuf::new(&mut buffer);
                std::future::poll_fn(|cx| share.poll_read(&mut socket, cx, &mut buf)).await.expect("bytes");
                let count = buf.filled().len();
                share.note(count, begun(count / 16, empty));
                count
            };
            assert_eq!([read().await, read().await, read().await], [8 << 10, then, then]);
        }
    }
}
