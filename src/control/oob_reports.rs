//! Requests out-of-band load reports from an endpoint.

use std::sync::{Arc, Weak};

use callboard_core::{Backoff, BackoffState, Endpoint, Load, later};
use callboard_protocols::orca::{OrcaLoadReport, OrcaLoadReportRequest, STREAM_CORE_METRICS};
use http::uri::PathAndQuery;
use tokio::task::AbortHandle;
use tokio::time::{Duration, Instant, sleep_until};
use tonic::client::Grpc;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tracing::Instrument;

use crate::grpc::{Defaults, Direct};
use crate::transport::Connection;

/// How large a report may be, in bytes. A report has only a few figures, but a peer may send anything.
const LARGEST_REPORT: usize = 64 << 10;

/// One stream of reports on one connection of an endpoint. It is opened again whenever it ends. Dropping this value
/// ends it.
#[derive(Debug)]
pub(crate) struct OobReports {
    /// The connection of the stream. The task holds it, and ends when this value is dropped.
    connection: Weak<Connection>,
    every: Duration,
    task: AbortHandle,
}

impl OobReports {
    /// Starts to request a report this often. Each report is stored in the endpoint.
    pub(crate) fn start(
        connection: &Arc<Connection>,
        endpoint: Endpoint,
        every: Duration,
        defaults: &Defaults,
    ) -> Self {
        let direct = Direct::new(Arc::clone(connection), endpoint.clone(), defaults.clone());
        let span = tracing::debug_span!("load_reports", address = %endpoint.instance().address()).or_current();
        let task = tokio::spawn(listen(direct, endpoint, every).instrument(span)).abort_handle();
        Self { connection: Arc::downgrade(connection), every, task }
    }

    /// Whether it uses this connection and this interval.
    pub(crate) fn is(&self, connection: &Arc<Connection>, every: Duration) -> bool {
        std::ptr::eq(self.connection.as_ptr(), Arc::as_ptr(connection)) && self.every == every
    }
}

impl Drop for OobReports {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Opens the stream again and again, with gRPC's backoff, unless the server does not know the method.
async fn listen(direct: Direct, endpoint: Endpoint, every: Duration) {
    if !direct.has_room() {
        tracing::debug!("the server permits one call at a time: no load reports are requested");
        return;
    }
    let mut retry = BackoffState::new(Backoff::CONNECTION);
    loop {
        let begun = Instant::now();
        let status = stream(&direct, &endpoint, every, &mut retry).await;
        if status.code() == Code::Unimplemented {
            tracing::debug!("the server does not report its load out of band");
            return;
        }
        // The wait counts from the start of the attempt, as for connections.
        let again = later(begun, retry.failed());
        tracing::debug!(%status, wait = ?again.saturating_duration_since(Instant::now()), "the stream of load reports has ended");
        sleep_until(again).await;
    }
}

/// Reads one stream to its end.
async fn stream(direct: &Direct, endpoint: &Endpoint, every: Duration, retry: &mut BackoffState) -> Status {
    let path = PathAndQuery::from_static(STREAM_CORE_METRICS);
    let codec = ProstCodec::<OrcaLoadReportRequest, OrcaLoadReport>::default();
    let request = Request::new(OrcaLoadReportRequest::new(every));
    let mut client = Grpc::new(direct.clone()).max_decoding_message_size(LARGEST_REPORT);
    let mut reports = match client.server_streaming(request, path, codec).await {
        Ok(response) => response.into_inner(),
        Err(status) => return status,
    };
    loop {
        match reports.message().await {
            Ok(Some(report)) => {
                retry.succeeded();
                endpoint.set_out_of_band_load(Load::now(callboard_core::LoadReport::from(report)));
            }
            Ok(None) => return Status::unavailable("the server has ended the stream"),
            Err(status) => return status,
        }
    }
}
