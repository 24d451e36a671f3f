//! One request and its response.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::client::ResponseFuture;

use super::pump::Pump;
use super::{Connection, Failure, Incoming, Outgoing};

/// The place of one request on a connection. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Connection>);

impl Slot {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self(connection)
    }

    /// Why the whole connection ended, if it has.
    pub(super) fn ended(&self) -> Option<&str> {
        self.0.streams.ended()
    }

    /// Whether it is a place on this connection.
    pub(crate) fn is_on(&self, connection: &Arc<Connection>) -> bool {
        Arc::ptr_eq(&self.0, connection)
    }

    /// Sends a request.
    ///
    /// After a failure that permits to send it again, the body comes back, rewound, if it still can be; a failure
    /// without a body is final.
    pub(crate) fn send(self, head: http::Request<()>, body: Outgoing) -> Result<Sent, Failed> {
        if let Some(failure) = self.0.too_large(&head) {
            return Err((failure, Some(body)));
        }
        let empty = matches!(&body, Outgoing::Whole(data) if data.is_empty());
        let (response, mut stream) = match self.0.sender.clone().send_request(head, empty) {
            Ok(opened) => opened,
            Err(error) => return Err((self.0.unopened(&error), Some(body))),
        };
        let body = match body {
            Outgoing::Whole(data) => {
                if !empty {
                    // It fails only if the stream is gone already, and then the response says why.
                    let _ = stream.send_data(data.clone(), true);
                }
                Body::Whole(data)
            }
            Outgoing::Stream(body) => Body::Stream(Pump::start(stream, body)),
        };
        Ok(Sent { response, body, slot: self })
    }
}

/// What failed, and the request's body if it can be sent again.
pub(crate) type Failed = (Failure, Option<Outgoing>);

/// A request that has no response yet. Dropping it resets the stream.
#[derive(Debug)]
pub(crate) struct Sent {
    response: ResponseFuture,
    body: Body,
    slot: Slot,
}

/// A response's head, and its body as `h2` has it.
pub(crate) type Heard = http::Response<h2::RecvStream>;

/// The body of a request that has been sent, or is being sent.
#[derive(Debug)]
enum Body {
    Whole(Bytes),
    Stream(Pump),
}

impl Sent {
    /// Resolves when the response's head is there, or will not come.
    pub(crate) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Heard, h2::Error>> {
        Pin::new(&mut self.response).poll(cx)
    }

    /// Whether this head is all of the response: gRPC's "trailers only".
    pub(crate) fn is_all(head: &Heard) -> bool {
        head.body().is_end_stream()
    }

    /// Does without the rest of a response: gives its head, and the request's body if it can be sent again.
    pub(crate) async fn dismissed(self, head: Heard) -> (http::response::Parts, Option<Outgoing>) {
        // Before the wait, so that the server is told.
        let (parts, _) = head.into_parts();
        let body = match self.body {
            Body::Whole(data) => Some(Outgoing::Whole(data)),
            Body::Stream(pump) => {
                pump.stop();
                pump.rewound().await
            }
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
        head.map(|stream| Incoming::new(stream, self.slot, pump))
    }

    /// What it means that there is none. Failures are those of [`Slot::send`].
    pub(crate) async fn failed(self, error: h2::Error) -> Failed {
        let failure = self.slot.0.failure(&error, self.response.stream_id().as_u32());
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

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.streams.release();
    }
}

impl Connection {
    fn failure(&self, error: &h2::Error, stream: u32) -> Failure {
        Failure::of(error, self.seen.has_left(stream), self.streams.ended())
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
            Failure::Broken(callboard_core::Code::Internal, why)
        })
    }

    /// The stream was not even opened. If that is because of the connection, no other request will do better.
    fn unopened(&self, error: &h2::Error) -> Failure {
        if error.is_io() || error.is_go_away() || error.is_reset() {
            self.streams.close();
            return Failure::of(error, false, self.streams.ended());
        }
        match error.reason() {
            // Ids are used up after 2^30 requests: this connection has served its time.
            None if error.to_string().contains("stream ID") => {
                self.streams.close();
                Failure::Unsent(super::failure::describe(error))
            }
            _ => Failure::Broken(callboard_core::Code::Internal, format!("the request is malformed: {error}")),
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
    let pseudo = pseudo.into_iter().map(|(name, value)| name.len() + value.len());
    let fields = head.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    pseudo.chain(fields).map(|field| field + 32).sum()
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
