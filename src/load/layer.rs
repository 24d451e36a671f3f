//! Counting a server's requests, and putting a report into each response.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Request, Response};
use tonic::Code;
use tower_layer::Layer;
use tower_service::Service;

use super::metadata::{LOAD_METRICS, encode};
use super::service::SERVICE;
use super::{CallLoad, LoadRecorder};

/// A tower layer that counts a server's requests, and puts the server's load into the trailers of each response, as
/// `endpoint-load-metrics-bin`. Handlers find a [`CallLoad`] in their request's extensions.
///
/// Requests to [`LoadReportServer`](super::LoadReportServer) pass through it untouched.
///
/// ```
/// use callboard::load::{LoadRecorder, LoadReportLayer, LoadReportServer};
///
/// let recorder = LoadRecorder::new();
/// let server = tonic::transport::Server::builder()
///     .layer(LoadReportLayer::new(recorder.clone()))
///     .add_service(LoadReportServer::new(recorder));
/// ```
#[derive(Clone, Debug)]
pub struct LoadReportLayer {
    recorder: LoadRecorder,
}

impl LoadReportLayer {
    /// The layer that counts with this recorder, and reports what it says.
    pub fn new(recorder: LoadRecorder) -> Self {
        Self { recorder }
    }
}

impl<S> Layer<S> for LoadReportLayer {
    type Service = LoadReporting<S>;

    fn layer(&self, inner: S) -> LoadReporting<S> {
        LoadReporting { inner, recorder: self.recorder.clone() }
    }
}

/// What [`LoadReportLayer`] makes of a service.
#[derive(Clone, Debug)]
pub struct LoadReporting<S> {
    inner: S,
    recorder: LoadRecorder,
}

impl<S, B, R> Service<Request<B>> for LoadReporting<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<LoadReportingBody<R>>;
    type Error = S::Error;
    type Future = LoadReportingFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        let is_own =
            path.strip_prefix('/').and_then(|path| path.split_once('/')).is_some_and(|(name, _)| name == SERVICE);
        let call = (!is_own).then(|| Counted::new(self.recorder.clone()));
        if let Some(call) = &call {
            request.extensions_mut().insert(call.load.clone());
        }
        LoadReportingFuture { inner: Box::pin(self.inner.call(request)), call }
    }
}

/// One request, which counts when it ends, however it does.
#[derive(Debug)]
struct Counted {
    recorder: LoadRecorder,
    load: CallLoad,
    error: bool,
}

impl Counted {
    fn new(recorder: LoadRecorder) -> Self {
        Self { recorder, load: CallLoad::default(), error: false }
    }

    /// Ends it with these trailers, and puts the report among them.
    fn end(mut self, trailers: &mut HeaderMap) {
        let code =
            trailers.get(tonic::Status::GRPC_STATUS).map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes()));
        self.error = is_of_server(code);
        let (recorder, load) = (self.recorder.clone(), self.load.clone());
        // It counts in its own report.
        drop(self);
        trailers.insert(LOAD_METRICS, encode(load.over(recorder.report())));
    }

    /// Ends it without trailers, by a failure.
    fn fail(mut self) {
        self.error = true;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.recorder.note_request(self.error);
    }
}

/// Whether a status says that the server has failed; others are the caller's own, or what was asked for. They are those
/// that OpenTelemetry counts as errors of servers.
fn is_of_server(code: Code) -> bool {
    use Code::{DataLoss, DeadlineExceeded, Internal, Unavailable, Unimplemented, Unknown};
    matches!(code, Unknown | DeadlineExceeded | Unimplemented | Internal | Unavailable | DataLoss)
}

/// The future of [`LoadReporting`].
#[derive(Debug)]
pub struct LoadReportingFuture<F> {
    inner: Pin<Box<F>>,
    call: Option<Counted>,
}

impl<F, R, E> Future for LoadReportingFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<LoadReportingBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { inner, call } = self.get_mut();
        let result = ready!(inner.as_mut().poll(cx));
        let call = call.take();
        Poll::Ready(match result {
            Err(error) => {
                call.into_iter().for_each(Counted::fail);
                Err(error)
            }
            Ok(mut response) => {
                // Trailers only: the status stands in the headers, and nothing follows.
                let call = if response.headers().contains_key(tonic::Status::GRPC_STATUS) {
                    call.into_iter().for_each(|call| call.end(response.headers_mut()));
                    None
                } else {
                    call
                };
                Ok(response.map(|inner| LoadReportingBody { inner: Box::pin(inner), call }))
            }
        })
    }
}

/// The body of [`LoadReporting`]'s response.
#[derive(Debug)]
pub struct LoadReportingBody<B> {
    inner: Pin<Box<B>>,
    call: Option<Counted>,
}

impl<B: http_body::Body> http_body::Body for LoadReportingBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<B::Data>, B::Error>>> {
        let Self { inner, call } = self.get_mut();
        let mut polled = inner.as_mut().poll_frame(cx);
        match &mut polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_mut() {
                    call.take().into_iter().for_each(|call| call.end(trailers));
                }
            }
            Poll::Ready(Some(Err(_))) => call.take().into_iter().for_each(Counted::fail),
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}
