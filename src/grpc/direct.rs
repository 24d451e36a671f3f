//! The channel's own calls on one connection.

use std::future::{poll_fn, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use callboard_core::Endpoint;
use futures_core::future::BoxFuture;
use http::HeaderMap;
use http_body::Frame;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;

use super::credentials::{self, Credentials, RequestInfo};
use super::defaults::Defaults;
use super::head::Head;
use super::{Answer, status};
use crate::transport::{Connection, Failure, Incoming, Outgoing, Slot};

/// How long credentials may take, as these calls have no deadline.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(20);

/// One connection, usable as the channel of a generated client. Its calls are not balanced, not counted as calls to the
/// endpoint, and not retried.
#[derive(Clone, Debug)]
pub(crate) struct Direct {
    connection: Arc<Connection>,
    /// The endpoint of the connection.
    endpoint: Endpoint,
    defaults: Arc<Defaults>,
}

impl Direct {
    pub(crate) fn new(connection: Arc<Connection>, endpoint: Endpoint, defaults: Defaults) -> Self {
        Self { connection, endpoint, defaults: Arc::new(defaults) }
    }

    /// Whether a call that never ends leaves streams for others.
    pub(crate) fn has_room(&self) -> bool {
        self.connection.places() > 1
    }
}

impl tower_service::Service<http::Request<Body>> for Direct {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match self.connection.try_reserve() {
            Some(slot) => Box::pin(send(slot, request, self.endpoint.clone(), Arc::clone(&self.defaults))),
            None => Box::pin(ready(Err(Status::unavailable("there is no free stream on the connection")))),
        }
    }
}

async fn send(slot: Slot, request: http::Request<Body>, endpoint: Endpoint, defaults: Arc<Defaults>) -> Answer {
    let (parts, body) = request.into_parts();
    let head = Head::new(http::Request::from_parts(parts, ()), &defaults)?;
    let given = match &defaults.credentials {
        None => None,
        Some(credentials) => Some(given(credentials, &head.described(&endpoint, &defaults), &defaults).await?),
    };
    let (mut head, _) = head.attempt(None, None, None, &defaults);
    head.headers_mut().extend(given.into_iter().flatten());
    let body = Outgoing::of(body, defaults.retry_buffer).await?;
    let mut sent = slot.send(head, body, None).map_err(|(failure, _)| failed(failure))?;
    match poll_fn(|cx| sent.poll_head(cx)).await {
        Err(error) => Err(failed(sent.failed(error).await.0)),
        Ok(head) => {
            let (parts, incoming) = sent.answered(head).into_parts();
            match status::of_http(&parts, str::to_owned) {
                Some(status) => Err(status),
                None => Ok(http::Response::from_parts(parts, Body::new(DirectBody(incoming)))),
            }
        }
    }
}

async fn given(credentials: &Credentials, attempt: &RequestInfo<'_>, defaults: &Defaults) -> Result<HeaderMap, Status> {
    let given = timeout(CREDENTIALS_TIMEOUT, credentials::of_attempt(credentials, attempt, &defaults.own_fields)).await;
    given.map_err(|_| Status::deadline_exceeded(format!("no call credentials within {CREDENTIALS_TIMEOUT:?}")))?
}

fn failed(failure: Failure) -> Status {
    status::of_failure(failure, str::to_owned)
}

#[derive(Debug)]
struct DirectBody(Incoming);

impl http_body::Body for DirectBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.get_mut().0.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(failed)))
    }
}
