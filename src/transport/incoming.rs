//! The body of a response.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http_body::Frame;

use super::Failure;
use super::grip::Grip;
use super::pump::Pump;

/// The body of a response. Dropping it before its end resets the stream and frees its slot.
#[derive(Debug)]
pub(crate) struct Incoming {
    stream: RecvStream,
    data_ended: bool,
    /// Held until the body has ended: the stream counts as open until then.
    grip: Grip,
    /// The task that may still send the request. The end or the drop of the response ends the request too.
    pump: Option<Pump>,
}

impl Incoming {
    pub(super) fn new(stream: RecvStream, grip: Grip, pump: Option<Pump>) -> Self {
        Self { stream, data_ended: false, grip, pump }
    }

    /// Whether nothing follows the headers.
    pub(crate) fn is_end(&self) -> bool {
        self.stream.is_end_stream()
    }

    /// Finishes a response of which nothing follows.
    pub(crate) fn finish(mut self) {
        self.grip.finish();
    }

    /// The next frame: data, then trailers. Flow control capacity is released as data is read.
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
        Poll::Ready(match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => {
                self.grip.finish();
                trailers.map(|trailers| self.taken(trailers))
            }
            Err(error) => Some(Err(self.failure(&error))),
        })
    }

    /// These trailers, if they are within the limit of this side.
    fn taken(&self, trailers: HeaderMap) -> Result<Frame<Bytes>, Failure> {
        let is_it = |of, last: bool| last && of == self.stream.stream_id().as_u32();
        match self.grip.connection().excess("trailers", 0, &trailers, is_it) {
            None => Ok(Frame::trailers(trailers)),
            Some(failure) => Err(failure),
        }
    }

    /// The failure of a response that has begun: the server has seen the request.
    fn failure(&mut self, error: &h2::Error) -> Failure {
        self.grip.finish();
        if let Some(status) = self.pump.as_ref().and_then(Pump::failure) {
            return Failure::Body(status.clone());
        }
        let connection = self.grip.connection();
        match Failure::of(error, &connection.seen, true, connection.streams.ended()) {
            Failure::Refused(text) | Failure::Overtaken(text) => {
                Failure::Broken(callboard_core::Code::Unavailable, text)
            }
            other => other,
        }
    }
}
