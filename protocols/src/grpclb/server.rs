//! The balancer's side of the protocol.

use std::convert::Infallible;
use std::fmt;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use callboard_core::BoxError;
use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use http_body::Body as HttpBody;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower_service::Service;

use super::BALANCE_LOAD;
use super::v1::{self, ClientStats, LoadBalanceRequest, LoadBalanceResponse};

/// The messages of a balancer to one client: [lists](LoadBalanceResponse::servers), or the request for
/// [fallback](LoadBalanceResponse::fallback). When this stream ends, the client tries the next balancer. It is dropped
/// when the client has gone.
pub type Answers = BoxStream<'static, LoadBalanceResponse>;

/// The service `grpc.lb.v1.LoadBalancer`: an external balancer for callboard's channels and for those of grpc-go, Java
/// and C++.
///
/// It is made from a function that is called once for each client, and returns the lists for it. Add the service to a
/// tonic server, and register that server as an [`InstanceKind::Balancer`](callboard_core::InstanceKind::Balancer) of
/// the service that it balances.
///
/// ```
/// use std::time::Duration;
/// use callboard_protocols::grpclb::{Asked, LoadBalancerServer, v1::{LoadBalanceResponse, Server}};
/// use futures_util::{StreamExt, stream};
///
/// let balancer = LoadBalancerServer::new(Duration::from_secs(5), |asked: Asked| {
///     if asked.name() != "project/test" {
///         return Err(tonic::Status::not_found(format!("no service {:?} here", asked.name())));
///     }
///     let list = LoadBalanceResponse::servers([Server::at(([10, 0, 0, 7], 50051).into(), "a")]);
///     // One list, and no other while the client is connected.
///     Ok(stream::once(async { list }).chain(stream::pending()).boxed())
/// });
/// // tonic::transport::Server::builder().add_service(balancer).serve(address).await?;
/// # let _ = balancer;
/// ```
#[derive(Clone)]
pub struct LoadBalancerServer {
    report_every: Duration,
    answer: Arc<dyn Fn(Asked) -> Result<Answers, Status> + Send + Sync>,
}

/// The request of a client.
#[derive(Debug)]
pub struct Asked {
    name: String,
    request: Request<()>,
    reports: Reports,
}

/// The reports of a client on its calls. The stream ends with the client's own. If reports are not read, the client
/// gathers them, so this may be dropped.
pub struct Reports(Streaming<LoadBalanceRequest>);

impl LoadBalancerServer {
    /// Makes the service. Clients report every `report_every`; with 0, they never do.
    ///
    /// `answer` is called once for each client. If it returns an error, the client tries the next balancer, after a
    /// backoff.
    pub fn new(
        report_every: Duration,
        answer: impl Fn(Asked) -> Result<Answers, Status> + Send + Sync + 'static,
    ) -> Self {
        Self { report_every, answer: Arc::new(answer) }
    }
}

impl Asked {
    /// Returns the name of the service to balance. A callboard client sends the service's name as it was dialled,
    /// grpc-go the path of its target.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the rest of the request: its metadata, its extensions and, with tonic's own server, the client's
    /// address.
    pub fn request(&self) -> &Request<()> {
        &self.request
    }

    /// Takes the stream of the client's reports.
    pub fn into_reports(self) -> Reports {
        self.reports
    }
}

impl Reports {
    /// Waits for the next report. None when the stream is over.
    ///
    /// # Cancel safety
    /// Cancel-safe: no report is lost.
    pub async fn next(&mut self) -> Option<ClientStats> {
        loop {
            // The reader need not know whether the client has ended its side or has gone.
            match self.0.message().await.ok()??.load_balance_request_type {
                Some(v1::Request::ClientStats(stats)) => return Some(stats),
                Some(v1::Request::InitialRequest(_)) | None => {}
            }
        }
    }
}

impl NamedService for LoadBalancerServer {
    const NAME: &'static str = "grpc.lb.v1.LoadBalancer";
}

impl<B> Service<http::Request<B>> for LoadBalancerServer
where
    B: HttpBody + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        if request.uri().path() != BALANCE_LOAD {
            let unknown = Status::unimplemented("grpc.lb.v1.LoadBalancer has one method: BalanceLoad");
            return Box::pin(ready(Ok(unknown.into_http())));
        }
        let conversation = Conversation(self.clone());
        let mut grpc = Grpc::new(ProstCodec::<LoadBalanceResponse, LoadBalanceRequest>::default());
        Box::pin(async move { Ok(grpc.streaming(conversation, request).await) })
    }
}

impl fmt::Debug for LoadBalancerServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadBalancerServer").field("report_every", &self.report_every).finish_non_exhaustive()
    }
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reports")
    }
}

/// One stream, as tonic wants it.
struct Conversation(LoadBalancerServer);

impl StreamingService<LoadBalanceRequest> for Conversation {
    type Response = LoadBalanceResponse;
    type ResponseStream = Said;
    type Future = BoxFuture<'static, Result<Response<Said>, Status>>;

    fn call(&mut self, request: Request<Streaming<LoadBalanceRequest>>) -> Self::Future {
        let LoadBalancerServer { report_every, answer } = self.0.clone();
        Box::pin(async move {
            let (metadata, extensions, mut requests) = request.into_parts();
            let first = requests.message().await?.and_then(|first| first.load_balance_request_type);
            let Some(v1::Request::InitialRequest(initial)) = first else {
                return Err(Status::invalid_argument("the first message is not an initial request"));
            };
            let request = Request::from_parts(metadata, extensions, ());
            let answers = answer(Asked { name: initial.name, request, reports: Reports(requests) })?;
            Ok(Response::new(Said { initial: Some(LoadBalanceResponse::initial(report_every)), answers }))
        })
    }
}

/// The initial response, and then the balancer's messages.
struct Said {
    initial: Option<LoadBalanceResponse>,
    answers: Answers,
}

impl Stream for Said {
    type Item = Result<LoadBalanceResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.initial.take() {
            Some(initial) => Poll::Ready(Some(Ok(initial))),
            None => self.answers.as_mut().poll_next(cx).map(|answer| answer.map(Ok)),
        }
    }
}
