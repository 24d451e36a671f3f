//! What a server reports about its load.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use tokio::time::Instant;

/// What a server reports about its load: the content of gRPC's `xds.data.orca.v3.OrcaLoadReport`.
///
/// Utilisations are fractions: 1.0 is full utilisation, as the server defines it, and values may be above it. Rates are
/// per second. A figure that the server does not report is 0 or absent. Nothing is checked: a peer may send negative
/// values and NaN.
///
/// Fields may be added later, so make it from the default:
///
/// ```
/// let mut report = callboard_core::LoadReport::default();
/// report.cpu_utilization = 0.7;
/// report.rps_fractional = 120.0;
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// Utilisation of the CPUs that the server may use.
    pub cpu_utilization: f64,
    /// Utilisation of the memory that the server may use.
    pub mem_utilization: f64,
    /// Utilisation of the resource that limits this application. If it is reported, it is used instead of the CPU's.
    pub application_utilization: f64,
    /// Requests per second.
    pub rps_fractional: f64,
    /// Requests per second that ended with an error.
    pub eps: f64,
    /// The cost of the call that carried the report, in units that the application chooses.
    pub request_cost: BTreeMap<String, f64>,
    /// Utilisation of other resources, by name.
    pub utilization: BTreeMap<String, f64>,
    /// Other figures that the application reports, by name.
    pub named_metrics: BTreeMap<String, f64>,
}

impl LoadReport {
    /// How many requests per second the server could serve at full utilisation, at the present cost of a request:
    /// gRPC's A58. It is the requests per second divided by the sum of the application's utilisation, or else the
    /// CPU's, and `penalty` times the share of requests that ended with an error. None if the report has no utilisation
    /// or no requests, or if its figures make no sense.
    ///
    /// ```
    /// let mut report = callboard_core::LoadReport::default();
    /// assert_eq!(report.capacity(1.0), None);
    /// (report.rps_fractional, report.cpu_utilization) = (30.0, 0.5);
    /// assert_eq!(report.capacity(1.0), Some(60.0));
    /// ```
    pub fn capacity(&self, penalty: f64) -> Option<f64> {
        let utilization = match self.application_utilization {
            application if application > 0.0 => application,
            _ => self.cpu_utilization,
        };
        let requests = self.rps_fractional;
        if !(utilization > 0.0 && requests > 0.0) {
            return None;
        }
        let capacity = requests / (utilization + self.eps / requests * penalty);
        // A peer may report anything.
        (capacity.is_finite() && capacity > 0.0).then_some(capacity)
    }
}

/// A load report, and when it was received. Cloning is cheap.
///
/// Servers may report with each response, and most reports are never used. So a report is parsed when it is first
/// [read](Self::report).
#[derive(Clone)]
pub struct Load {
    said: Arc<LazyLock<LoadReport, Read>>,
    /// When this channel received it.
    pub at: Instant,
}

/// Parses a report.
type Read = Box<dyn FnOnce() -> LoadReport + Send + Sync>;

impl Load {
    /// Makes a report that was received now. Used by the channel, and by tests of pickers.
    pub fn now(report: LoadReport) -> Self {
        Self::unread(move || report)
    }

    /// The same with a report that is parsed once, when it is first read. Used by the channel.
    pub fn unread(read: impl FnOnce() -> LoadReport + Send + Sync + 'static) -> Self {
        Self { said: Arc::new(LazyLock::new(Box::new(read))), at: Instant::now() }
    }

    /// The report. If it could not be parsed, all of its figures are 0.
    pub fn report(&self) -> &LoadReport {
        &self.said
    }
}

impl PartialEq for Load {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at && self.report() == other.report()
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load").field("report", self.report()).field("at", &self.at).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_report_is_read_when_it_is_asked_for_and_once() {
        let read = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&read);
        let load = Load::unread(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            LoadReport { eps: 3.0, ..LoadReport::default() }
        });
        let clone = load.clone();
        assert_eq!(read.load(Ordering::SeqCst), 0);
        assert_eq!((load.report().eps, clone.report().eps, read.load(Ordering::SeqCst)), (3.0, 3.0, 1));
        assert_eq!(load, clone);
    }
}
