//! The decoding of load reports, for fuzz targets. It is compiled with `--cfg fuzzing` alone, and is not part of the
//! API.

use callboard_core::{Load, LoadReport};
use http::{HeaderMap, HeaderValue};
use prost::Message;

use super::message::OrcaLoadReport;
use super::metadata;

/// The name of a report's trailer.
pub const TRAILER: http::HeaderName = metadata::LOAD_METRICS;

/// The report in trailers.
pub fn load_in(trailers: &HeaderMap) -> Option<Load> {
    metadata::load_in(trailers)
}

/// The report as the value of a header.
pub fn encode(report: LoadReport) -> HeaderValue {
    metadata::encode(report)
}

/// Decodes an out-of-band report. None if it cannot be decoded.
pub fn out_of_band(message: &[u8]) -> Option<LoadReport> {
    OrcaLoadReport::decode(message).ok().map(LoadReport::from)
}
