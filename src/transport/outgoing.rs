//! The body of a request.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::Body as _;
use tonic::body::Body;

/// The body of a request, in a form that can be sent again as long as possible.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// The whole body: a unary call's one message. Sending it again costs nothing.
    Whole(Bytes),
    /// A streamed body.
    Stream(Box<Replay>),
}

impl Outgoing {
    /// Polls what is available, without waiting. At most `limit` bytes of a streamed body are kept.
    pub(crate) async fn of(mut body: Body, limit: usize) -> Result<Self, tonic::Status> {
        poll_fn(|cx| Poll::Ready(Self::begun(std::mem::take(&mut body), limit, cx))).await
    }

    fn begun(mut body: Body, limit: usize, cx: &mut Context<'_>) -> Result<Self, tonic::Status> {
        if body.is_end_stream() {
            return Ok(Self::Whole(Bytes::new()));
        }
        let mut poll = || Pin::new(&mut body).poll_frame(cx);
        let first = match poll() {
            Poll::Pending => None,
            Poll::Ready(None) => return Ok(Self::Whole(Bytes::new())),
            Poll::Ready(Some(frame)) => Some(Piece::of(frame?)),
        };
        let Some(Piece::Data(data)) = first else { return Ok(Self::stream(body, limit, [first, None])) };
        let second = match poll() {
            Poll::Pending => None,
            Poll::Ready(None) => return Ok(Self::Whole(data)),
            Poll::Ready(Some(frame)) => Some(Piece::of(frame?)),
        };
        Ok(Self::stream(body, limit, [Some(Piece::Data(data)), second]))
    }

    fn stream(body: Body, limit: usize, begun: [Option<Piece>; 2]) -> Self {
        let begun: VecDeque<_> = begun.into_iter().flatten().collect();
        let size = begun.iter().map(Piece::len).sum();
        Self::Stream(Box::new(Replay { body, limit, kept: begun, next: 0, size, lost: false }))
    }

    /// Whether the part of it that is known has at most `limit` bytes.
    pub(crate) fn is_within(&self, limit: usize) -> bool {
        match self {
            Self::Whole(data) => data.len() <= limit,
            Self::Stream(replay) => replay.size <= limit,
        }
    }
}

/// One piece of a body.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Piece {
    fn of(frame: http_body::Frame<Bytes>) -> Self {
        match frame.into_data() {
            Ok(data) => Self::Data(data),
            // A frame is data or trailers. Future kinds of frames are not sent.
            Err(frame) => frame.into_trailers().map_or_else(|_| Self::Data(Bytes::new()), Self::Trailers),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Data(data) => data.remaining(),
            Self::Trailers(_) => 0,
        }
    }
}

/// A streamed body that remembers its beginning.
#[derive(Debug)]
pub(crate) struct Replay {
    body: Body,
    /// How many bytes may be kept.
    limit: usize,
    kept: VecDeque<Piece>,
    /// The index in `kept` of the piece to send next. Beyond its end, the body is polled.
    next: usize,
    /// How many bytes the body has yielded so far.
    size: usize,
    /// Whether a piece was sent and is not kept, so that the body cannot be sent again.
    lost: bool,
}

impl Replay {
    /// The next piece. Kept pieces come first.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, tonic::Status>>> {
        if self.next < self.kept.len() {
            let piece = self.kept[self.next].clone();
            self.next += 1;
            return Poll::Ready(Some(Ok(piece)));
        }
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            let piece = Piece::of(frame?);
            self.keep(&piece);
            Ok(piece)
        }))
    }

    fn keep(&mut self, piece: &Piece) {
        self.size += piece.len();
        if self.lost || self.size > self.limit {
            self.forget();
        } else {
            self.kept.push_back(piece.clone());
            self.next = self.kept.len();
        }
    }

    /// Drops the kept pieces: they exceed the limit, or the call has a response and will not be sent again. Pieces that
    /// were not sent yet stay.
    pub(super) fn forget(&mut self) {
        self.lost = true;
        self.kept.drain(..self.next);
        self.next = 0;
    }

    /// Rewinds to the beginning. None if that is not possible any more.
    pub(crate) fn rewind(mut self: Box<Self>) -> Option<Box<Self>> {
        self.next = 0;
        (!self.lost).then_some(self)
    }
}
