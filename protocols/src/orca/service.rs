//! The service for out-of-band reports.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_core::Stream;
use futures_core::future::BoxFuture;
use http::{Request, Response};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic::Status;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, ServerStreamingService};
use tonic_prost::ProstCodec;
use tower_service::Service;

use super::LoadRecorder;
use super::message::{OrcaLoadReport, OrcaLoadReportRequest};

/// The path of the service's only method.
pub const STREAM_CORE_METRICS: &str = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics";

/// The service's name.
pub(super) const SERVICE: &str = "xds.service.orca.v3.OpenRcaService";

/// The default of the shortest interval of reports, as in gRPC's servers.
const MIN_INTERVAL: Duration = Duration::from_secs(30);
/// The longest interval. A timer cannot take more, and a client may ask for anything.
const LONGEST_INTERVAL: Duration = Duration::from_secs(365 * 24 * 3_600);

/// gRPC's `xds.service.orca.v3.OpenRcaService`: sends reports of this server's load to clients that ask for them. Add
/// it to a tonic server like any other service.
///
/// A stream lasts as long as the client wants, so a server that shuts down gracefully waits for its clients. gRPC's
/// clients end it when they see that the server goes away. callboard's `Shutdown::end_streams` ends it for all clients.
#[derive(Clone, Debug)]
pub struct LoadReportServer {
    recorder: LoadRecorder,
    min_interval: Duration,
}

impl LoadReportServer {
    /// Makes the service, which sends the recorder's reports.
    pub fn new(recorder: LoadRecorder) -> Self {
        Self { recorder, min_interval: MIN_INTERVAL }
    }

    /// Sets the shortest interval of reports to a client. 30 s by default, as in gRPC's servers; less than 1 ms counts
    /// as 1 ms. A client that does not set an interval gets this one.
    #[must_use]
    pub fn min_interval(mut self, interval: Duration) -> Self {
        self.min_interval = interval;
        self
    }
}

impl NamedService for LoadReportServer {
    const NAME: &'static str = SERVICE;
}

impl<B> Service<Request<B>> for LoadReportServer
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<callboard_core::BoxError> + Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            if request.uri().path() != STREAM_CORE_METRICS {
                return Ok(Status::unimplemented("OpenRcaService has one method: StreamCoreMetrics").into_http());
            }
            let mut grpc = Grpc::new(ProstCodec::<OrcaLoadReport, OrcaLoadReportRequest>::default());
            Ok(grpc.server_streaming(Method(service), request).await)
        })
    }
}

/// The service's only method.
struct Method(LoadReportServer);

impl ServerStreamingService<OrcaLoadReportRequest> for Method {
    type Response = OrcaLoadReport;
    type ResponseStream = Reports;
    type Future = std::future::Ready<Result<tonic::Response<Reports>, Status>>;

    fn call(&mut self, request: tonic::Request<OrcaLoadReportRequest>) -> Self::Future {
        let wanted = request.get_ref().every().unwrap_or_default();
        let every = wanted.max(self.0.min_interval).clamp(Duration::from_millis(1), LONGEST_INTERVAL);
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        std::future::ready(Ok(tonic::Response::new(Reports { recorder: self.0.recorder.clone(), ticks })))
    }
}

/// Sends a report at once, and one after each interval.
#[derive(Debug)]
struct Reports {
    recorder: LoadRecorder,
    ticks: Interval,
}

impl Stream for Reports {
    type Item = Result<OrcaLoadReport, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        ready!(self.ticks.poll_tick(cx));
        Poll::Ready(Some(Ok(self.recorder.report().into())))
    }
}
