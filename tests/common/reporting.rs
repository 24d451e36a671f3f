//! A server that reports its load, and counts the requests for out-of-band reports.

// Each test binary compiles this file and uses a part of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use callboard::load::{LoadRecorder, LoadReportLayer, LoadReportServer};
use callboard_echo::pb::echo_server::EchoServer;
use callboard_echo::pb::{EchoRequest, EchoResponse};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use tower::util::MapRequestLayer;

use super::common::scripted::Script;

/// The settings of a server.
pub struct Reporting {
    pub address: SocketAddr,
    pub recorder: LoadRecorder,
    /// The number of requests to report out of band.
    asked: Arc<AtomicUsize>,
    stop: Arc<Notify>,
    serving: JoinHandle<()>,
}

impl Reporting {
    /// A server that reports in trailers and, if there is an interval, out of band. It answers with a function.
    pub async fn start<F>(out_of_band: Option<Duration>, script: F) -> Self
    where
        F: Fn(Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> + Send + Sync + 'static,
    {
        let any = (Ipv4Addr::LOCALHOST, 0).into();
        Self::start_at(any, |server| server, out_of_band, script).await
    }

    pub async fn start_at<F>(
        address: SocketAddr,
        configure: impl FnOnce(tonic::transport::Server) -> tonic::transport::Server,
        out_of_band: Option<Duration>,
        script: F,
    ) -> Self
    where
        F: Fn(Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (recorder, asked, stop) = (LoadRecorder::new(), Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let count = {
            let asked = Arc::clone(&asked);
            move |request: http::Request<tonic::body::Body>| {
                let own = request.uri().path().starts_with("/xds.service.orca.v3.OpenRcaService/");
                asked.fetch_add(usize::from(own), Ordering::SeqCst);
                request
            }
        };
        let service = out_of_band.map(|every| LoadReportServer::new(recorder.clone()).min_interval(every));
        let server = configure(tonic::transport::Server::builder())
            .layer(MapRequestLayer::new(count))
            .layer(LoadReportLayer::new(recorder.clone()))
            .add_service(EchoServer::new(Script(script)))
            .add_optional_service(service);
        let stopped = Arc::clone(&stop);
        let serving = tokio::spawn(async move {
            let connections = TcpListenerStream::new(listener);
            server.serve_with_incoming_shutdown(connections, stopped.notified()).await.unwrap();
        });
        Self { address, recorder, asked, stop, serving }
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Stops gracefully: returns when all streams have ended.
    pub async fn stop(self) {
        self.stop.notify_one();
        self.serving.await.unwrap();
    }
}

/// A server that reports these figures, with each response and, if there is an interval, out of band.
pub async fn reporting(out_of_band: Option<Duration>, rps: f64, cpu: f64) -> Reporting {
    let server = Reporting::start(out_of_band, |request| {
        Ok(Response::new(EchoResponse { payload: request.into_inner().payload, server: String::new() }))
    })
    .await;
    server.recorder.set(|report| (report.rps_fractional, report.cpu_utilization) = (rps, cpu));
    server
}
