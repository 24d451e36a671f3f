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

/// `:status` in a list of headers, as RFC 9113 counts it.
const STATUS: usize = 7 + 3 + 32;
/// How many names a `HeaderMap` has room for. `h2` cuts what is more.
const MOST_NAMES: usize = 24_576;

/// How many interim responses, of a status below 200, one call bears. gRPC's servers send none, and others a handful.
const MOST_INTERIM: u32 = 100;

impl Slot {
    /// Sends a request. Its stream is reset when the deadline comes, if there is one and it is polled by then or not.
    ///
    /// After a failure that permits to send it again, the body comes back, rewound, if it still can be; a failure
    /// without a body is final.
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
                    // It fails only if the stream is gone already, and then the response says why.
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
    /// Dropped before the body: it says when the stream is reset.
    grip: Grip,
    body: Body,
    /// Its stream.
    number: u32,
    /// How many interim responses have come.
    interim: u32,
}

/// Why there is no response's head.
#[derive(Debug)]
pub(crate) enum Unheard {
    Failed(h2::Error),
    /// The server has answered, by more than this side takes.
    Excessive(Failure),
}

/// A response's head, and its body as `h2` has it.
pub(crate) type Heard = http::Response<h2::RecvStream>;

/// A response's head, or why there is none.
pub(crate) type Answered = Result<Heard, Unheard>;

/// The body of a request that has been sent, or is being sent.
#[derive(Debug)]
enum Body {
    Whole(Bytes),
    Stream(Pump),
}

impl Sent {
    /// Resolves when the response's head is there, or will not come.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Answered> {
        // `h2` drops them without a word, if they are not asked for first.
        while let Poll::Ready(Some(Ok(_))) = self.response.poll_informational(cx) {
            self.interim += 1;
            if self.interim > MOST_INTERIM {
                return Poll::Ready(Err(Unheard::Excessive(Self::only_interim())));
            }
        }
        let head = ready!(Pin::new(&mut self.response).poll(cx)).map_err(Unheard::Failed)?;
        let connection = self.grip.connection();
        connection.streams.note_answer(self.number);
        let is_it = |of, last: bool| of == self.response.stream_id().as_u32() && (!last || Self::is_all(&head));
        Poll::Ready(match connection.excess("headers", STATUS, head.headers(), is_it) {
            None => Ok(head),
            Some(failure) => Err(Unheard::Excessive(failure)),
        })
    }

    /// How much of the request's body is sent.
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

    /// Whether this head is all of the response: gRPC's "trailers only".
    pub(crate) fn is_all(head: &Heard) -> bool {
        head.body().is_end_stream()
    }

    /// Does without the rest of a response: gives its head, and the request's body if it can be sent again.
    pub(crate) async fn dismissed(mut self, head: Heard) -> (http::response::Parts, Option<Outgoing>) {
        // Before the wait, so that the server is told.
        let (parts, _) = head.into_parts();
        self.grip.finish();
        let body = match self.body {
            Body::Whole(data) => Some(Outgoing::Whole(data)),
            Body::Stream(pump) => pump.rewound().await,
        };
        (parts, body)
    }

    /// The response with this head.
    pub(crate) fn answered(self, head: Heard) -> http::Response<Incoming> {
        let pump = match self.body {
            Body::Whole(_) => None,
            Body::Stream(pump) => {
                pump.answered();
                Some(pump)
            }
        };
        head.map(|stream| Incoming::new(stream, self.grip, pump))
    }

    /// What it means that there is none. Failures are those of [`Slot::send`].
    pub(crate) async fn failed(mut self, unheard: Unheard) -> Failed {
        let failure = match unheard {
            Unheard::Failed(error) => {
                let (connection, stream) = (self.grip.connection(), self.response.stream_id().as_u32());
                // `h2` resets a stream of which the head is far too large.
                let excess = || connection.excess("headers", 0, &HeaderMap::new(), |of, _| of == stream);
                let cut = if error.is_reset() && error.is_library() { excess() } else { None };
                cut.unwrap_or_else(|| connection.failure(&error, stream))
            }
            // The server has answered: it is not asked again.
            Unheard::Excessive(failure) => return (failure, None),
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

    /// Why the server would not take this head. Many servers end the whole connection over it, with all calls on it; so
    /// it is not sent, as grpc-go does.
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

    /// Why this list of a response's headers or trailers is not taken. Where all blocks were small there is nothing to look at. `h2` cuts what is much larger than the limit, so that
    /// what there is here may look harmless; then its block was seen to be large when it came.
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

    /// The stream was not even opened. If that is because of the connection, no other request will do better.
    fn unopened(&self, error: &h2::Error) -> Failure {
        if error.is_io() || error.is_go_away() || error.is_reset() {
            self.streams.close();
            return Failure::of(error, &self.seen, false, self.streams.ended());
        }
        match error.reason() {
            // Ids are used up after 2^30 requests: this connection has served its time.
            None if error.to_string().contains("stream ID") => {
                self.streams.close();
                Failure::Unsent(super::failure::describe(error, &self.seen))
            }
            _ => Failure::Unsendable(callboard_core::Code::Internal, format!("the request is malformed: {error}")),
        }
    }
}

/// The size of a header list as RFC 9113 counts it for the setting: of each field, pseudo-headers included, name and value
/// and 32.
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

/// The same of fields without pseudo-headers.
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
