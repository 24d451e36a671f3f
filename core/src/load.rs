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
