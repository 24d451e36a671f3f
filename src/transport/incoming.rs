//! A response body on its way in.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::Frame;

use super::pump::Pump;
use super::{Failure, Slot};

/// A response body. Dropping it before its end resets the stream and frees its place.
#[derive(Debug)]
pub(crate) struct Incoming {
    stream: RecvStream,
    data_ended: bool,
    /// Held for the body's life: the stream counts until then.
    slot: Slot,
    /// Still sending, perhaps. A response that has ended, or that nobody wants, ends the request too.
    pump: Option<Pump>,
}

impl Incoming {
    pub(super) fn new(stream: RecvStream, slot: Slot, pump: Option<Pump>) -> Self {
        Self { stream, data_ended: false, slot, pump }
    }

    /// Whether nothing at all follows the headers.
    pub(crate) fn is_end(&self) -> bool {
        self.stream.is_end_stream()
    }

    /// The next frame: data, then trailers. The window that data has used is given back as it is read.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if !self.data_ended {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // It fails only if more is released than was received.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(self.failure(&error)))),
                None => self.data_ended = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(error) => Poll::Ready(Some(Err(self.failure(&error)))),
        }
    }

    /// Once there is a response, the server has seen the request, whatever follows.
    fn failure(&self, error: &h2::Error) -> Failure {
        if let Some(status) = self.pump.as_ref().and_then(Pump::failure) {
            return Failure::Body(status.clone());
        }
        match Failure::of(error, true, self.slot.ended()) {
            Failure::Refused(text) => Failure::Broken(callboard_core::Code::Unavailable, text),
            other => other,
        }
    }
}
