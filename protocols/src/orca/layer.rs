//! Counts a server's requests, and adds a report to each response.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{HeaderMap, Request, Response};
use tonic::Code;
use tower_layer::Layer;
use tower_service::Service;

use super::metadata::{LOAD_METRICS, encode};
use super::service::SERVICE;
use super::{CallLoad, LoadRecorder};

/// A tower layer that counts a server's requests, and adds the server's load to the trailers of each response, as
/// `endpoint-load-metrics-bin`. Handlers find a [`CallLoad`] in their request's extensions.
///
/// Requests to [`LoadReportServer`](super::LoadReportServer) are passed through unchanged.
///
/// ```
/// use callboard_protocols::orca::{LoadRecorder, LoadReportLayer, LoadReportServer};
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
    /// Makes a layer that counts with this recorder, and sends its reports.
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

/// The service that [`LoadReportLayer`] makes.
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

/// One request. It is counted when it ends, in any way.
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

    /// Ends the request with these trailers, and adds the report to them.
    fn end(mut self, trailers: &mut HeaderMap) {
        let code =
            trailers.get(tonic::Status::GRPC_STATUS).map_or(Code::Unknown, |code| Code::from_bytes(code.as_bytes()));
        self.error = is_of_server(code);
        let (recorder, load) = (self.recorder.clone(), self.load.clone());
        // A request is counted in its own report.
        drop(self);
        trailers.insert(LOAD_METRICS, encode(load.over(recorder.report())));
    }

    /// Ends the request with a failure, without trailers.
    fn fail(mut self) {
        self.error = true;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.recorder.note_request(self.error);
    }
}

/// Whether a status is a failure of the server. Others are the client's, or expected. This is OpenTelemetry's set of
/// server errors.
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
                // Trailers only: the status is in the headers, and nothing follows.
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

/// The response body of [`LoadReporting`].
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use callboard_core::LoadReport;
    use futures_util::FutureExt;
    use http_body::{Body as _, Frame};
    use tonic::Status;
    use tonic::body::Body;
    use tower::{ServiceExt, service_fn};

    use super::super::metadata::load_in;
    use super::*;

    /// A body of one message and then a status, or a failure.
    struct Ending(Vec<Result<Frame<Bytes>, Status>>);

    impl Ending {
        fn with(end: Result<Code, Status>) -> Self {
            let end = end.map(|code| Frame::trailers(Status::new(code, "").into_http::<()>().headers().clone()));
            Self(vec![end, Ok(Frame::data(Bytes::from_static(b"message")))])
        }
    }

    impl http_body::Body for Ending {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            Poll::Ready(self.0.pop())
        }
    }

    /// The results of a response: its report, and the numbers of requests and errors counted.
    fn counted(response: Result<Response<Body>, Status>, frames: usize) -> (Option<LoadReport>, u64, u64) {
        let recorder = LoadRecorder::new();
        recorder.set(|report| report.mem_utilization = 0.5);
        let mut response = Some(response);
        let service = service_fn(move |_: Request<Body>| std::future::ready(response.take().expect("called once")));
        let service = LoadReportLayer::new(recorder.clone()).layer(service);
        let answered = service.oneshot(Request::new(Body::empty())).now_or_never().expect("at once");
        let report_in = |fields: &HeaderMap| load_in(fields).map(|load| load.report().clone());
        let mut report = answered.as_ref().ok().and_then(|response| report_in(response.headers()));
        if let Ok(response) = answered {
            let mut body = response.into_body();
            let mut cx = Context::from_waker(std::task::Waker::noop());
            for _ in 0..frames {
                if let Poll::Ready(Some(Ok(frame))) = Pin::new(&mut body).poll_frame(&mut cx) {
                    report = report.or(frame.trailers_ref().and_then(report_in));
                }
            }
        }
        let (requests, errors) = recorder.counted();
        (report, requests, errors)
    }

    fn body(end: Result<Code, Status>) -> Result<Response<Body>, Status> {
        Ok(Response::new(Body::new(Ending::with(end))))
    }

    #[test]
    fn each_request_counts_once_however_it_ends_and_carries_a_report_if_it_can() {
        let alone = |code| Ok(Status::new(code, "").into_http());
        for (response, frames, reports, errors) in [
            (body(Ok(Code::Ok)), 2, true, 0),
            (body(Ok(Code::NotFound)), 2, true, 0),
            (body(Ok(Code::Internal)), 3, true, 1),
            // The client goes away before the end.
            (body(Ok(Code::Ok)), 1, false, 0),
            (body(Err(Status::internal("broken"))), 2, false, 1),
            (alone(Code::Unavailable), 1, true, 1),
            (alone(Code::InvalidArgument), 1, true, 0),
            (Err(Status::unknown("the service has failed")), 0, false, 1),
        ] {
            let what = format!("{response:?}, {frames} frames");
            let (report, requests, counted) = counted(response, frames);
            assert_eq!(report.map(|report| report.mem_utilization), reports.then_some(0.5), "{what}");
            assert_eq!((requests, counted), (1, errors), "{what}");
        }
    }
}
