//! One request and its response.

use std::sync::Arc;

use bytes::Bytes;
use h2::client::ResponseFuture;

use super::outgoing::Replay;
use super::pump::Pump;
use super::{Connection, Failure, Incoming, Outgoing};

/// The place of one request on a connection. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Slot(Arc<Connection>);

impl Slot {
    pub(super) fn new(connection: Arc<Connection>) -> Self {
        Self(connection)
    }

    /// Whether it is a place on this connection.
    pub(crate) fn is_on(&self, connection: &Arc<Connection>) -> bool {
        Arc::ptr_eq(&self.0, connection)
    }

    /// Sends a request and waits for the response's head.
    ///
    /// After a failure that permits to send it again, the body comes back, rewound, if it still can be; a failure
    /// without a body is final. Dropping the future resets the stream.
    pub(crate) async fn send(
        self,
        head: http::Request<()>,
        body: Outgoing,
    ) -> Result<http::Response<Incoming>, (Failure, Option<Outgoing>)> {
        let connection = Arc::clone(&self.0);
        if let Some(failure) = connection.too_large(&head) {
            return Err((failure, Some(body)));
        }
        let empty = matches!(&body, Outgoing::Whole(data) if data.is_empty());
        let (response, mut stream) = match connection.sender.clone().send_request(head, empty) {
            Ok(opened) => opened,
            Err(error) => return Err((connection.unopened(&error), Some(body))),
        };
        match body {
            Outgoing::Whole(data) => {
                if !empty {
                    // It fails only if the stream is gone already, and then the response says why.
                    let _ = stream.send_data(data.clone(), true);
                }
                drop(stream);
                self.receive_whole(response, data).await
            }
            // Boxed, because a unary call would carry the room for it.
            Outgoing::Stream(body) => Box::pin(self.receive_streamed(response, Pump::start(stream, body))).await,
        }
    }

    async fn receive_whole(
        self,
        response: ResponseFuture,
        data: Bytes,
    ) -> Result<http::Response<Incoming>, (Failure, Option<Outgoing>)> {
        let stream = response.stream_id().as_u32();
        match response.await {
            Ok(response) => Ok(self.body_of(response, None)),
            Err(error) => Err((self.0.failure(&error, stream), Some(Outgoing::Whole(data)))),
        }
    }

    async fn receive_streamed(
        self,
        response: ResponseFuture,
        pump: Pump,
    ) -> Result<http::Response<Incoming>, (Failure, Option<Outgoing>)> {
        let stream = response.stream_id().as_u32();
        match response.await {
            Ok(response) => {
                pump.answered();
                Ok(self.body_of(response, Some(pump)))
            }
            Err(error) => {
                if let Some(status) = pump.failure() {
                    return Err((Failure::Body(status.clone()), None));
                }
                let failure = self.0.failure(&error, stream);
                let body = pump.back().await;
                Err((failure, body.and_then(Replay::rewind).map(Outgoing::Stream)))
            }
        }
    }

    fn body_of(self, response: http::Response<h2::RecvStream>, pump: Option<Pump>) -> http::Response<Incoming> {
        let connection = Arc::clone(&self.0);
        response.map(|stream| Incoming::new(stream, connection, self, pump))
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
