//! The messages of `xds.data.orca.v3` and `xds.service.orca.v3`, and their conversion to core's types.

use std::time::Duration;

use callboard_core::LoadReport;

use crate::duration;

include!("../generated/xds.data.orca.v3.rs");
include!("../generated/xds.service.orca.v3.rs");

impl OrcaLoadReportRequest {
    /// Makes a request for reports at this interval, with all costs of calls.
    pub fn new(every: Duration) -> Self {
        Self { report_interval: Some(duration::message(every)), ..Self::default() }
    }

    /// Returns the requested interval of reports. None if it is not set or invalid, such as a negative one.
    pub fn every(&self) -> Option<Duration> {
        let prost_types::Duration { seconds, nanos } = self.report_interval.as_ref()?;
        let nanos = u32::try_from(*nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
        Some(Duration::new(u64::try_from(*seconds).ok()?, nanos))
    }
}

impl From<OrcaLoadReport> for LoadReport {
    fn from(message: OrcaLoadReport) -> Self {
        let mut report = Self::default();
        report.cpu_utilization = message.cpu_utilization;
        report.mem_utilization = message.mem_utilization;
        report.application_utilization = message.application_utilization;
        report.rps_fractional = message.rps_fractional;
        report.eps = message.eps;
        report.request_cost = message.request_cost;
        report.utilization = message.utilization;
        report.named_metrics = message.named_metrics;
        report
    }
}

impl From<LoadReport> for OrcaLoadReport {
    fn from(report: LoadReport) -> Self {
        Self {
            cpu_utilization: report.cpu_utilization,
            mem_utilization: report.mem_utilization,
            application_utilization: report.application_utilization,
            rps_fractional: report.rps_fractional,
            eps: report.eps,
            request_cost: report.request_cost,
            utilization: report.utilization,
            named_metrics: report.named_metrics,
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn an_interval_is_read_as_it_was_written_and_nonsense_is_none() {
        for every in [Duration::ZERO, Duration::from_millis(1_500), Duration::from_secs(3_600)] {
            assert_eq!(OrcaLoadReportRequest::new(every).every(), Some(every));
        }
        let odd = |seconds, nanos| OrcaLoadReportRequest {
            report_interval: Some(prost_types::Duration { seconds, nanos }),
            ..OrcaLoadReportRequest::default()
        };
        for (seconds, nanos) in [(-1, 0), (1, -1), (1, 1_000_000_000), (i64::MIN, i32::MIN)] {
            assert_eq!(odd(seconds, nanos).every(), None);
        }
        assert_eq!(OrcaLoadReportRequest::default().every(), None);
    }

    /// The bytes were written down from the protocol's own files by hand: tag and wire type, length, value.
    #[test]
    fn tags_and_types_are_those_of_the_protocol() {
        let one = 1.0_f64.to_le_bytes();
        let figure = |tag: u8| [&[tag], &one[..]].concat();
        let named = |tag: u8| [&[tag, 12, 0x0a, 1, b'k', 0x11], &one[..]].concat();
        let map = std::collections::BTreeMap::from([("k".to_owned(), 1.0)]);
        let report = OrcaLoadReport {
            cpu_utilization: 1.0,
            mem_utilization: 1.0,
            request_cost: map.clone(),
            utilization: map.clone(),
            rps_fractional: 1.0,
            eps: 1.0,
            named_metrics: map,
            application_utilization: 1.0,
        };
        let fields = [
            figure(0x09),
            figure(0x11),
            named(0x22),
            named(0x2a),
            figure(0x31),
            figure(0x39),
            named(0x42),
            figure(0x49),
        ];
        assert_eq!(report.encode_to_vec(), fields.concat());
        let mut request = OrcaLoadReportRequest::new(Duration::from_secs(3));
        request.request_cost_names.push("k".to_owned());
        assert_eq!(request.encode_to_vec(), b"\x0a\x02\x08\x03\x12\x01k");
    }
}
