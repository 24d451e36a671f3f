//! What fuzz targets reach of load reports. It is compiled with `--cfg fuzzing` alone, and no part of the interface.

use callboard_core::{Load, LoadReport};
use http::{HeaderMap, HeaderValue};
use prost::Message;

use super::message::OrcaLoadReport;
use super::metadata;

/// The name of the trailer that a report stands in.
pub const TRAILER: http::HeaderName = metadata::LOAD_METRICS;

/// The report in trailers.
pub fn load_in(trailers: &HeaderMap) -> Option<Load> {
    metadata::load_in(trailers)
}

/// The report as the value of a header.
pub fn encode(report: LoadReport) -> HeaderValue {
    metadata::encode(report)
}

/// A report that has come out of band. None if it is none.
pub fn out_of_band(message: &[u8]) -> Option<LoadReport> {
    OrcaLoadReport::decode(message).ok().map(LoadReport::from)
}
