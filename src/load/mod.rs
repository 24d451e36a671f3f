//! Load reports from servers to clients: gRPC's ORCA.
//!
//! A server reports its load with each response, in the trailer `endpoint-load-metrics-bin`. It also reports on a
//! stream of `xds.service.orca.v3.OpenRcaService` to clients that ask for it. A channel keeps the latest report on each
//! [`Endpoint`](crate::Endpoint::load), where any picker can read it. The balancer `weighted_round_robin` uses it. The
//! protocol is the one of gRPC in Go, Java and C++, and of Envoy.
//!
//! This module is the server's side. A channel needs nothing from it.
//!
//! ```no_run
//! use callboard::load::{LoadRecorder, LoadReportLayer, LoadReportServer};
//!
//! # async fn doc() -> Result<(), tonic::transport::Error> {
//! let recorder = LoadRecorder::new();
//! tonic::transport::Server::builder()
//!     .layer(LoadReportLayer::new(recorder.clone()))
//!     .add_service(LoadReportServer::new(recorder)) // and your own
//!     .serve(([127, 0, 0, 1], 50051).into())
//!     .await
//! # }
//! ```

#[cfg(fuzzing)]
#[doc(hidden)]
pub use callboard_protocols::orca::fuzzing;
pub use callboard_protocols::orca::{
    CallLoad, LoadRecorder, LoadReportLayer, LoadReportServer, LoadReporting, LoadReportingBody, LoadReportingFuture,
};
