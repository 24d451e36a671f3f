//! Asking an endpoint for reports out of band.

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

/// How large a report may be, in bytes. One has a handful of figures; a peer may send anything.
const LARGEST_REPORT: usize = 64 << 10;

/// One stream of reports on one connection of an endpoint, which is opened again whenever it ends. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct OobReports {
    /// Which one it is. The task holds the connection, and ends with this.
    connection: Weak<Connection>,
    every: Duration,
    task: AbortHandle,
}

impl OobReports {
    /// Starts to ask for a report that often. Each lands on the endpoint.
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

    /// Whether it is this connection that it asks on, and this often.
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
        tracing::debug!("the server takes one call at a time: it is not asked for load reports");
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
        // The wait is counted from the start of the attempt, as with connections.
        let again = later(begun, retry.failed());
        tracing::debug!(%status, wait = ?again.saturating_duration_since(Instant::now()), "no load reports");
        sleep_until(again).await;
    }
}

/// One stream, to its end.
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
