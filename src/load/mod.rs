//! Load reports of servers to clients: gRPC's ORCA.
//!
//! A server says how busy it is: with each response, in the trailer `endpoint-load-metrics-bin`, and to clients that ask
//! for it on a stream of `xds.service.orca.v3.OpenRcaService`. A channel keeps the latest report on each
//! [`Endpoint`](crate::Endpoint::load), where any picker can read it; the balancer `weighted_round_robin` goes by it.
//! Servers and clients of Go, Java, C++ and Envoy speak the same.
//!
//! This module is the servers' side. A channel needs nothing of it.
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
