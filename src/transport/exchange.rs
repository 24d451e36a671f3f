//! One request and its response.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use http::HeaderMap;

use super::expiry::Expiry;
use super::grip::Grip;
use super::hold::{Hold, Sender};
use super::pump::{Pump, SentBytes};
use super::{Connection, Failure, Incoming, Outgoing, Slot};

/// The size of `:status` in a header list, as RFC 9113 counts it.
const STATUS: usize = 7 + 3 + 32;
/// How many names a `HeaderMap` can hold. `h2` drops the rest.
const MOST_NAMES: usize = 24_576;

/// How many interim responses (1xx) one call accepts. gRPC servers send none, others a few.
const MOST_INTERIM: u32 = 100;

impl Slot {
    /// Sends a request. Its stream is reset at the deadline, if there is one, whether or not the call is polled then.
    ///
    /// After a failure that permits another attempt, the body is returned, rewound, if that is still possible. A
    /// failure without a body is final.
    pub(crate) fn send(
        self,
        head: http::Request<()>,
        body: Outgoing,
        deadline: Option<&Arc<Expiry>>,
    ) -> Result<Sent, Failed> {
        let connection = Arc::clone(self.connection());
        if let Some(failure) = connection.too_large(&head) {
            return Err((failure, Some(body)));
        }
        let empty = matches!(&body, Outgoing::Whole(data) if data.is_empty());
        let (response, mut stream) = match connection.sender.clone().send_request(head, empty) {
            Ok(opened) => opened,
            Err(error) => return Err((connection.unopened(&error), Some(body))),
        };
        connection.streams.note_sent();
        let number = response.stream_id().as_u32();
        let (sender, body) = match body {
            Outgoing::Whole(data) => {
                if !empty {
                    // It fails only if the stream is gone already. The response reports why.
                    let _ = stream.send_data(data.clone(), true);
                }
                (Sender::Whole(stream), Body::Whole(data))
            }
            Outgoing::Stream(body) => {
                let pump = Pump::start(&connection.runtime, stream, body);
                (Sender::Pump(pump.stopper()), Body::Stream(pump))
            }
        };
        let grip = Grip::new(Hold::new(sender, self, number), connection, deadline);
        Ok(Sent { response, body, number, grip, interim: 0 })
    }
}

/// What failed, and the request's body if it can be sent again.
pub(crate) type Failed = (Failure, Option<Outgoing>);

/// A request that has no response yet. Dropping it resets the stream.
#[derive(Debug)]
pub(crate) struct Sent {
    response: ResponseFuture,
    /// Dropped before the body, because it decides when the stream is reset.
    grip: Grip,
    body: Body,
    /// The number of its stream.
    number: u32,
    /// How many interim responses were received.
    interim: u32,
}

/// Why there is no response head.
#[derive(Debug)]
pub(crate) enum NoResponse {
    Failed(h2::Error),
    /// The server has answered with more than this side accepts.
    Excessive(Failure),
}

/// A response's head, and its body as `h2` has it.
pub(crate) type ResponseHead = http::Response<h2::RecvStream>;

/// A response's head, or why there is none.
pub(crate) type Answered = Result<ResponseHead, NoResponse>;

/// The body of a request that has been sent, or is being sent.
#[derive(Debug)]
enum Body {
    Whole(Bytes),
    Stream(Pump),
}

impl Sent {
    /// Resolves with the response's head, or with why there is none.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Answered> {
        // `h2` drops interim responses silently unless they are polled first.
        while let Poll::Ready(Some(Ok(_))) = self.response.poll_informational(cx) {
            self.interim += 1;
            if self.interim > MOST_INTERIM {
                return Poll::Ready(Err(NoResponse::Excessive(Self::only_interim())));
            }
        }
        let head = ready!(Pin::new(&mut self.response).poll(cx)).map_err(NoResponse::Failed)?;
        let connection = self.grip.connection();
        connection.streams.note_answer(self.number);
        let is_it = |of, last: bool| of == self.response.stream_id().as_u32() && (!last || Self::is_all(&head));
        Poll::Ready(match connection.excess("headers", STATUS, head.headers(), is_it) {
            None => Ok(head),
            Some(failure) => Err(NoResponse::Excessive(failure)),
        })
    }

    /// How many bytes of the request's body are sent.
    pub(crate) fn bytes(&self) -> SentBytes {
        match &self.body {
            Body::Whole(data) => SentBytes::Whole(data.len() as u64),
            Body::Stream(pump) => pump.sent_bytes(),
        }
    }

    fn only_interim() -> Failure {
        let why = format!("the server has sent more than {MOST_INTERIM} interim responses (1xx) and no answer");
        Failure::Broken(callboard_core::Code::Internal, why)
    }

    /// Whether this head is the whole response: gRPC's "trailers only".
    pub(crate) fn is_all(head: &ResponseHead) -> bool {
        head.body().is_end_stream()
    }

    /// Discards the rest of a response. Returns its head, and the request's body if it can be sent again.
    pub(crate) async fn dismissed(mut self, head: ResponseHead) -> (http::response::Parts, Option<Outgoing>) {
        // Dropped before the wait, so that the server learns that the response is discarded.
        let (parts, _) = head.into_parts();
        self.grip.finish();
        let body = match self.body {
            Body::Whole(data) => Some(Outgoing::Whole(data)),
            Body::Stream(pump) => pump.rewound().await,
        };
        (parts, body)
    }

    /// The response with this head.
    pub(crate) fn answered(self, head: ResponseHead) -> http::Response<Incoming> {
        let pump = match self.body {
            Body::Whole(_) => None,
            Body::Stream(pump) => {
                pump.answered();
                Some(pump)
            }
        };
        head.map(|stream| Incoming::new(stream, self.grip, pump))
    }

    /// The failure of a request without a response head. Failures are those of [`Slot::send`].
    pub(crate) async fn failed(mut self, why: NoResponse) -> Failed {
        let failure = match why {
            NoResponse::Failed(error) => {
                let (connection, stream) = (self.grip.connection(), self.response.stream_id().as_u32());
                // `h2` itself resets a stream whose head is far too large.
                let excess = || connection.excess("headers", 0, &HeaderMap::new(), |of, _| of == stream);
                let cut = if error.is_reset() && error.is_library() { excess() } else { None };
                cut.unwrap_or_else(|| connection.failure(&error, stream))
            }
            // The server has answered, so the request is not sent again.
            NoResponse::Excessive(failure) => return (failure, None),
        };
        self.grip.finish();
        match self.body {
            Body::Whole(data) => (failure, Some(Outgoing::Whole(data))),
            Body::Stream(pump) => {
                if let Some(status) = pump.failure() {
                    return (Failure::Body(status.clone()), None);
                }
                (failure, pump.rewound().await)
            }
        }
    }
}

impl Connection {
    fn failure(&self, error: &h2::Error, stream: u32) -> Failure {
        Failure::of(error, &self.seen, self.seen.has_left(stream), self.streams.ended())
    }

    /// The failure of a head that is too large for the server. Many servers end the whole connection over it, with all
    /// its calls. So it is not sent, as in grpc-go.
    fn too_large(&self, head: &http::Request<()>) -> Option<Failure> {
        let (size, limit) = (header_list_size(head), self.seen.header_list_limit());
        (size > limit as usize).then(|| {
            let why = format!(
                "the request's metadata is too large: with it, the headers have {size} bytes, and the server takes at \
                 most {limit} (SETTINGS_MAX_HEADER_LIST_SIZE); it was not sent"
            );
            Failure::Unsendable(callboard_core::Code::Internal, why)
        })
    }

    /// The failure of a response whose headers or trailers are too large. If all blocks were small there is nothing to
    /// check. `h2` truncates lists that are much larger than the limit, so the list may look small here; then its block
    /// was noted as large when it was read.
    pub(super) fn excess(
        &self,
        what: &str,
        pseudo: usize,
        list: &HeaderMap,
        is_it: impl Fn(u32, bool) -> bool,
    ) -> Option<Failure> {
        if self.seen.largest_block() <= self.harmless_block {
            return None;
        }
        let (limit, size) = (self.header_list, pseudo + list_size(list));
        let large = size > limit || list.keys_len() >= MOST_NAMES || self.seen.any_excessive(is_it);
        large.then(|| {
            let least = size.max(limit);
            let more = if size > limit { "" } else { "more than " };
            let why = format!(
                "the response's {what} are too large: they have {more}{least} bytes, and this side takes at most {limit} \
                 (http2_max_header_list_size), of at most {MOST_NAMES} names"
            );
            Failure::Broken(callboard_core::Code::Internal, why)
        })
    }

    /// The failure of a request whose stream could not be opened. If the connection is the reason, another request on
    /// it would fail as well.
    fn unopened(&self, error: &h2::Error) -> Failure {
        if error.is_io() || error.is_go_away() || error.is_reset() {
            self.streams.close();
            return Failure::of(error, &self.seen, false, self.streams.ended());
        }
        match error.reason() {
            // Stream ids are used up after 2^30 requests: the connection has to be replaced.
            None if error.to_string().contains("stream ID") => {
                self.streams.close();
                Failure::Unsent(super::failure::describe(error, &self.seen))
            }
            _ => Failure::Unsendable(callboard_core::Code::Internal, format!("the request is malformed: {error}")),
        }
    }
}

/// The size of a header list as RFC 9113 defines it for the setting: the name, the value and 32 bytes of each field,
/// pseudo-headers included.
fn header_list_size(head: &http::Request<()>) -> usize {
    let uri = head.uri();
    let pseudo = [
        (":method", head.method().as_str()),
        (":scheme", uri.scheme_str().unwrap_or_default()),
        (":authority", uri.authority().map_or("", |authority| authority.as_str())),
        (":path", uri.path_and_query().map_or("", |path| path.as_str())),
    ];
    let pseudo: usize = pseudo.into_iter().map(|(name, value)| name.len() + value.len() + 32).sum();
    pseudo + list_size(head.headers())
}

/// The same for fields without pseudo-headers.
fn list_size(fields: &HeaderMap) -> usize {
    fields.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_list_is_as_large_as_its_names_and_values_and_32_for_each() {
        let head = http::Request::post("http://a.b/c/d?e").header("f", "gh").header("f", "").body(()).expect("a head");
        let fields =
            [(":method", "POST"), (":scheme", "http"), (":authority", "a.b"), (":path", "/c/d?e"), ("f", "gh")];
        let expected: usize = fields.map(|(name, value)| name.len() + value.len() + 32).into_iter().sum();
        assert_eq!(header_list_size(&head), expected + "f".len() + 32);
    }
}
