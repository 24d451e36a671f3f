//! A socket that gives bytes as they are cut.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};

/// Gives these bytes in pieces of these lengths, over and over. Where the length is 0, whoever reads has to wait.
pub struct Pieces<'a> {
    bytes: &'a [u8],
    lengths: std::iter::Cycle<std::slice::Iter<'a, u8>>,
}

impl<'a> Pieces<'a> {
    /// Without any length, all bytes come at once.
    pub fn new(bytes: &'a [u8], lengths: &'a [u8]) -> Self {
        Self { bytes, lengths: lengths.iter().cycle() }
    }
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let length = self.lengths.next().map_or(usize::MAX, |length| usize::from(*length));
        if length == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let (piece, rest) = self.bytes.split_at(length.min(buf.remaining()).min(self.bytes.len()));
        buf.put_slice(piece);
        self.bytes = rest;
        Poll::Ready(Ok(()))
    }
}
