//! The messages of `xds.data.orca.v3` and `xds.service.orca.v3`, by hand: there are two.

use std::collections::BTreeMap;
use std::time::Duration;

use callboard_core::LoadReport;

/// `xds.data.orca.v3.OrcaLoadReport`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct OrcaLoadReport {
    #[prost(double, tag = "1")]
    cpu_utilization: f64,
    #[prost(double, tag = "2")]
    mem_utilization: f64,
    // 3 was `rps`, a whole number, which nobody sends any more.
    #[prost(btree_map = "string, double", tag = "4")]
    request_cost: BTreeMap<String, f64>,
    #[prost(btree_map = "string, double", tag = "5")]
    utilization: BTreeMap<String, f64>,
    #[prost(double, tag = "6")]
    rps_fractional: f64,
    #[prost(double, tag = "7")]
    eps: f64,
    #[prost(btree_map = "string, double", tag = "8")]
    named_metrics: BTreeMap<String, f64>,
    #[prost(double, tag = "9")]
    application_utilization: f64,
}

/// `xds.service.orca.v3.OrcaLoadReportRequest`. Its second field, which names the costs that are wanted, nobody heeds.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct OrcaLoadReportRequest {
    #[prost(message, optional, tag = "1")]
    report_interval: Option<ProtoDuration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, prost::Message)]
struct ProtoDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl OrcaLoadReportRequest {
    pub(crate) fn new(every: Duration) -> Self {
        let seconds = i64::try_from(every.as_secs()).unwrap_or(i64::MAX);
        Self { report_interval: Some(ProtoDuration { seconds, nanos: every.subsec_nanos() as i32 }) }
    }

    /// How often reports are wanted. None if that is not said, or negative.
    pub(super) fn every(&self) -> Option<Duration> {
        let ProtoDuration { seconds, nanos } = self.report_interval.as_ref()?;
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
    use super::*;

    #[test]
    fn an_interval_is_read_as_it_was_written_and_nonsense_is_none() {
        for every in [Duration::ZERO, Duration::from_millis(1_500), Duration::from_secs(3_600)] {
            assert_eq!(OrcaLoadReportRequest::new(every).every(), Some(every));
        }
        let odd = |seconds, nanos| OrcaLoadReportRequest { report_interval: Some(ProtoDuration { seconds, nanos }) };
        for (seconds, nanos) in [(-1, 0), (1, -1), (1, 1_000_000_000), (i64::MIN, i32::MIN)] {
            assert_eq!(odd(seconds, nanos).every(), None);
        }
        assert_eq!(OrcaLoadReportRequest::default().every(), None);
    }
}
