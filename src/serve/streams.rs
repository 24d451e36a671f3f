//! Streams that end when their server shuts down.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use tokio::time::Instant;
use tonic::Status;
use tonic::server::NamedService;
use tower_service::Service;

use super::shutdown_signal::Shutdown;

/// How long a stream that never pauses goes on after the shutdown has begun.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A service whose streams end at shutdown. [`Shutdown::end_streams`] makes it.
#[derive(Clone, Debug)]
pub struct EndStreams<S> {
    inner: S,
    shutdown: Shutdown,
}

impl Shutdown {
    /// Wraps a service so that the streams of its responses end when the server shuts down, with
    /// [`UNAVAILABLE`](tonic::Code::Unavailable). Messages that the service has ready are sent first, for at most a
    /// second. A response that has not begun is not affected, and neither is one whose client does not read. This is
    /// for services whose streams have no end of their own, such as the health service's `Watch`, which has reported
    /// NOT_SERVING [by then](crate::Serve::not_serving).
    ///
    /// ```
    /// # use callboard::Shutdown;
    /// # fn server(shutdown: &Shutdown) -> tonic::transport::server::Router {
    /// let (health, service) = tonic_health::server::health_reporter();
    /// let server = tonic::transport::Server::builder().add_service(shutdown.end_streams(service));
    /// # drop(health);
    /// # server
    /// # }
    /// ```
    pub fn end_streams<S>(&self, service: S) -> EndStreams<S> {
        EndStreams::new(service, self.clone())
    }
}

impl<S> EndStreams<S> {
    pub(super) fn new(inner: S, shutdown: Shutdown) -> Self {
        Self { inner, shutdown }
    }
}

impl<S: NamedService> NamedService for EndStreams<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B, R> Service<Request<B>> for EndStreams<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<EndingBody<R>>;
    type Error = S::Error;
    type Future = EndStreamsFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        EndStreamsFuture { inner: Box::pin(self.inner.call(request)), shutdown: self.shutdown.clone() }
    }
}

/// The future of [`EndStreams`].
#[derive(Debug)]
pub struct EndStreamsFuture<F> {
    inner: Pin<Box<F>>,
    shutdown: Shutdown,
}

impl<F, R, E> Future for EndStreamsFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<EndingBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self { inner, shutdown } = self.get_mut();
        let response = ready!(inner.as_mut().poll(cx));
        Poll::Ready(response.map(|response| response.map(|body| EndingBody::new(body, shutdown.clone()))))
    }
}

/// The response body of [`EndStreams`].
#[derive(Debug)]
pub struct EndingBody<B> {
    /// None once the shutdown has ended it.
    inner: Option<Pin<Box<B>>>,
    shutdown: Shutdown,
    /// When the body first saw that the shutdown has begun.
    begun: Option<Instant>,
}

impl<B> EndingBody<B> {
    fn new(inner: B, shutdown: Shutdown) -> Self {
        Self { inner: Some(Box::pin(inner)), shutdown, begun: None }
    }

    fn is_overdue(&mut self) -> bool {
        self.shutdown.has_begun() && self.begun.get_or_insert_with(Instant::now).elapsed() >= LAST_WORDS
    }
}

impl<B: Body> Body for EndingBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.get_mut();
        let overdue = this.is_overdue();
        let Some(body) = &mut this.inner else { return Poll::Ready(None) };
        if !overdue {
            // Messages that the service has ready come first.
            if let Poll::Ready(frame) = body.as_mut().poll_frame(cx) {
                return Poll::Ready(frame);
            }
            ready!(Pin::new(&mut this.shutdown).poll(cx));
        }
        this.inner = None;
        Poll::Ready(Some(Ok(Frame::trailers(going()))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(|inner| inner.as_ref().is_end_stream())
    }
}

fn going() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let added = Status::unavailable("the server is shutting down").add_header(&mut trailers);
    debug_assert!(added.is_ok(), "the text is ASCII");
    trailers
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::poll_fn;
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::time::{Instant, advance};

    use super::*;

    /// A stream that always has another message.
    struct Endless;

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"more")))))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_never_pauses_ends_within_a_second_of_the_shutdown() {
        let (shut_down, shutdown) = Shutdown::new();
        let mut body = EndingBody::new(Endless, shutdown);
        let mut next = async || {
            advance(Duration::from_millis(10)).await;
            poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await.map(|frame| frame.expect("it cannot fail"))
        };
        for _ in 0..1_000 {
            assert!(next().await.expect("the server goes on").is_data());
        }
        drop(shut_down);
        let begun = Instant::now();
        while next().await.expect("it has not ended yet").is_data() {
            assert!(begun.elapsed() < Duration::from_secs(2), "it goes on");
        }
        assert!(begun.elapsed() >= Duration::from_secs(1), "what has been said already is sent");
        assert!(next().await.is_none());
    }
}
