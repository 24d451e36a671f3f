//! What tonic's handlers cannot do themselves: see which messages are compressed, send trailers with a response that
//! succeeds, and tell a call that was cancelled from one whose requests have come to their end.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, Request, Response};
use http_body::{Body as _, Frame};
use tonic::Status;
use tonic::body::Body;
use tower::{Layer, Service};

use crate::flags::Flags;

/// Metadata that a server sends back in the head of its response, and in its trailers.
const INITIAL: HeaderName = HeaderName::from_static("x-grpc-test-echo-initial");
const TRAILING: HeaderName = HeaderName::from_static("x-grpc-test-echo-trailing-bin");

/// Puts [`Flags`] into each request's extensions, sends metadata back, and counts.
#[derive(Clone, Debug)]
pub(crate) struct WireLayer(pub(crate) Arc<Calls>);

impl<S> Layer<S> for WireLayer {
    type Service = Wire<S>;

    fn layer(&self, inner: S) -> Wire<S> {
        Wire { inner, calls: Arc::clone(&self.0) }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Wire<S> {
    inner: S,
    calls: Arc<Calls>,
}

impl<S> Service<Request<Body>> for Wire<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let flags = Flags::default();
        request.extensions_mut().insert(flags.clone());
        let request = request.map(|body| flags.note(body));
        let (initial, trailing) = (only(request.headers(), &INITIAL), only(request.headers(), &TRAILING));
        let running = request.uri().path().starts_with("/grpc.testing.").then(|| Running::begin(&self.calls));
        let answer = self.inner.call(request);
        async move {
            let mut response = answer.await?;
            response.headers_mut().extend(initial);
            Ok(response.map(|body| {
                let mut trailed = Trailed { body, trailing, running };
                if trailed.body.is_end_stream() {
                    trailed.end();
                }
                Body::new(trailed)
            }))
        }
        .boxed()
    }
}

/// The cases' calls, not those for load reports.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    pub(crate) begun: AtomicUsize,
    /// Those whose response was given up before its end.
    pub(crate) cancelled: AtomicUsize,
}

/// One call, which is cancelled if this is dropped before its end.
struct Running {
    calls: Arc<Calls>,
    ended: bool,
}

impl Running {
    fn begin(calls: &Arc<Calls>) -> Self {
        calls.begun.fetch_add(1, Ordering::SeqCst);
        Self { calls: Arc::clone(calls), ended: false }
    }

    fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.calls.cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// The headers of this name.
fn only(headers: &HeaderMap, name: &HeaderName) -> HeaderMap {
    headers.get_all(name).iter().map(|value| (name.clone(), value.clone())).collect()
}

/// A body with more trailers than it has.
struct Trailed {
    body: Body,
    trailing: HeaderMap,
    running: Option<Running>,
}

impl Trailed {
    fn end(&mut self) {
        self.running.take().into_iter().for_each(Running::end);
    }
}

impl http_body::Body for Trailed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            trailers.extend(std::mem::take(&mut self.trailing));
        }
        // Trailers are the last frame, if there are any.
        if frame.as_ref().is_none_or(|frame| frame.as_ref().is_ok_and(Frame::is_trailers)) {
            self.end();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
