//! Load reports from servers to clients: gRPC's ORCA.
//!
//! A server reports its load with each response, in the trailer `endpoint-load-metrics-bin`. It also reports on a
//! stream of `xds.service.orca.v3.OpenRcaService` to clients that ask for it. The protocol is the one of gRPC in Go,
//! Java and C++, and of Envoy.
//!
//! ```no_run
//! use callboard_protocols::orca::{LoadRecorder, LoadReportLayer, LoadReportServer};
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

mod cpu;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod layer;
mod message;
mod metadata;
mod of_call;
mod recorder;
mod service;
mod window;

pub use layer::{LoadReportLayer, LoadReporting, LoadReportingBody, LoadReportingFuture};
pub use message::{OrcaLoadReport, OrcaLoadReportRequest};
pub use metadata::{LOAD_METRICS, load_in};
pub use of_call::CallLoad;
pub use recorder::LoadRecorder;
pub use service::{LoadReportServer, STREAM_CORE_METRICS};
