//! Limits of message sizes by the service config: gRPC's `maxRequestMessageBytes` and `maxResponseMessageBytes`.
//!
//! The length in a message's prefix is checked, before any of the message is sent or buffered.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use callboard_core::{Endpoint, MethodConfig};
use futures_core::future::BoxFuture;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use super::ServedBy;
use crate::grpc::{self, Answer, Phase};

/// The prefix of a message: one byte of flags, four of the length.
const PREFIX: usize = 5;

/// The limits of a call's messages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Limits {
    request: Option<u64>,
    response: Option<u64>,
}

impl Limits {
    pub(super) fn of(method: Option<&MethodConfig>) -> Self {
        method.map_or_else(Self::default, |method| Self {
            request: method.max_request_message_bytes,
            response: method.max_response_message_bytes,
        })
    }

    /// Limits a request's body: it fails before a message that is too large.
    pub(super) fn on_request(self, body: Body) -> Body {
        match self.request {
            None => body,
            Some(limit) => Body::new(Metered::new(body, limit, Side::Request)),
        }
    }

    /// Limits a call's response: it fails at a message that is too large.
    pub(super) fn on_response(self, call: impl Future<Output = Answer> + Send + 'static) -> BoxFuture<'static, Answer> {
        let Some(limit) = self.response else { return Box::pin(call) };
        Box::pin(async move {
            let response = call.await?;
            let from = response.extensions().get().map(|ServedBy(endpoint)| endpoint.clone());
            Ok(response.map(|body| Body::new(Metered::new(body, limit, Side::Response(from)))))
        })
    }
}

/// Whose messages are limited.
#[derive(Debug)]
enum Side {
    Request,
    Response(Option<Endpoint>),
}

impl Side {
    /// gRPC's code, as grpc-go gives it.
    fn exceeded(&self, size: u64, limit: u64) -> Status {
        let (of, field) = match self {
            Self::Request => ("request", "maxRequestMessageBytes"),
            Self::Response(_) => ("response", "maxResponseMessageBytes"),
        };
        let message = format!(
            "a message of the {of} has {size} bytes; {field} in the service's config allows {limit}: raise it there, or \
             make the message smaller"
        );
        let status = Status::resource_exhausted(message);
        match self {
            Self::Request => grpc::local(status, Phase::Request, None),
            Self::Response(from) => grpc::local(status, Phase::Body, from.as_ref()),
        }
    }
}

/// A body with a limit of message sizes. It fails at the first message that is too large, and ends then.
#[derive(Debug)]
struct Metered {
    // None once it has failed, so that the sender of the body learns of it.
    body: Option<Body>,
    meter: Meter,
    side: Side,
}

impl Metered {
    fn new(body: Body, limit: u64, side: Side) -> Self {
        Self { body: Some(body), meter: Meter::new(limit), side }
    }
}

impl http_body::Body for Metered {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
        if let Some(Err(size)) = data.map(|data| self.meter.pass(data)) {
            self.body = None;
            return Poll::Ready(Some(Err(self.side.exceeded(size, self.meter.limit))));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), http_body::Body::size_hint)
    }
}

/// Follows the messages in a stream of bytes that may be split anywhere.
#[derive(Debug)]
struct Meter {
    limit: u64,
    prefix: [u8; PREFIX],
    /// How many bytes of the prefix are known.
    known: usize,
    /// How many bytes of the message are still to come.
    left: usize,
}

impl Meter {
    fn new(limit: u64) -> Self {
        Self { limit, prefix: [0; PREFIX], known: 0, left: 0 }
    }

    /// Reads the next bytes. The error is the length of a message that is too large.
    fn pass(&mut self, mut data: &[u8]) -> Result<(), u64> {
        loop {
            let of_message = data.len().min(self.left);
            self.left -= of_message;
            data = &data[of_message..];
            let part = data.len().min(PREFIX - self.known);
            self.prefix[self.known..self.known + part].copy_from_slice(&data[..part]);
            self.known += part;
            data = &data[part..];
            if self.known < PREFIX {
                return Ok(());
            }
            let [_, length @ ..] = self.prefix;
            let length = u32::from_be_bytes(length);
            if u64::from(length) > self.limit {
                return Err(length.into());
            }
            (self.known, self.left) = (0, length as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A stream of messages of these lengths.
    fn stream(lengths: &[u32]) -> Vec<u8> {
        let message = |length: &u32| {
            let prefix = [&[1][..], &length.to_be_bytes()].concat();
            [prefix, vec![0xff; *length as usize]].concat()
        };
        lengths.iter().flat_map(message).collect()
    }

    proptest! {
        #[test]
        fn wherever_the_bytes_are_cut_the_first_message_above_the_limit_is_found(
            lengths in prop::collection::vec(0..40_u32, 0..8),
            pieces in prop::collection::vec(1..20_usize, 1..20),
            limit in 0..40_u64,
        ) {
            let (bytes, mut meter) = (stream(&lengths), Meter::new(limit));
            let (mut rest, mut found) = (bytes.as_slice(), None);
            for piece in pieces.iter().cycle() {
                let (piece, others) = rest.split_at((*piece).min(rest.len()));
                rest = others;
                found = meter.pass(piece).err();
                if found.is_some() || rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, lengths.iter().copied().map(u64::from).find(|length| *length > limit));
        }
    }

    #[test]
    fn a_length_is_known_before_the_message_is_there() {
        let mut meter = Meter::new(u64::from(u32::MAX) - 1);
        assert_eq!(meter.pass(&[0, 0xff, 0xff, 0xff]), Ok(()));
        assert_eq!(meter.pass(&[0xff]), Err(u32::MAX.into()));
    }
}
