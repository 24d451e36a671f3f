//! What a server says of its load.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

/// What a server says of its load: the content of gRPC's `xds.data.orca.v3.OrcaLoadReport`.
///
/// Utilisations are shares, of which 1.0 is all there is; what counts as all is the server's to say, and a value may be
/// above it. Rates are per second. 0, or an absent name, is what the server does not report. Nothing is checked: a peer
/// may send negative values and NaN.
///
/// It may grow, so it is made from the default:
///
/// ```
/// let mut report = callboard_core::LoadReport::default();
/// report.cpu_utilization = 0.7;
/// report.rps_fractional = 120.0;
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadReport {
    /// Of the CPUs that the server may use.
    pub cpu_utilization: f64,
    /// Of the memory that the server may use.
    pub mem_utilization: f64,
    /// Of whatever bounds this application. Where it is reported, it counts instead of the CPU's.
    pub application_utilization: f64,
    /// Requests per second.
    pub rps_fractional: f64,
    /// Requests per second that ended with an error.
    pub eps: f64,
    /// What the call that carried the report has cost, in units of the application's own.
    pub request_cost: BTreeMap<String, f64>,
    /// Utilisation of other resources, by their names.
    pub utilization: BTreeMap<String, f64>,
    /// Whatever else the application reports, by name.
    pub named_metrics: BTreeMap<String, f64>,
}

impl LoadReport {
    /// How many requests per second the server would serve at full utilisation, if each took what they take now: gRPC's
    /// A58. The application's utilisation counts, or else the CPU's; to it is added the share of requests that ended with
    /// an error, times `penalty`. None if the report does not say it: without utilisation or requests, or with figures
    /// that make no sense.
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

/// A report, and when it came. Cloning is cheap.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// What the server has said.
    pub report: Arc<LoadReport>,
    /// When this channel received it.
    pub at: Instant,
}

impl Load {
    /// A report that has come just now. Used by the channel, and by tests of pickers.
    pub fn now(report: impl Into<Arc<LoadReport>>) -> Self {
        Self { report: report.into(), at: Instant::now() }
    }
}
