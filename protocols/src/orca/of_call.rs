//! The load report of a single call.

use std::sync::{Arc, Mutex, PoisonError};

use callboard_core::LoadReport;

/// The report of one call, in addition to the recorder's figures. A handler finds it in the extensions of its request
/// if a [`LoadReportLayer`](super::LoadReportLayer) is around it. Whatever it sets until the response ends is sent.
///
/// ```
/// use callboard_protocols::orca::CallLoad;
///
/// async fn handler(request: tonic::Request<()>) -> Result<tonic::Response<()>, tonic::Status> {
///     if let Some(load) = request.extensions().get::<CallLoad>() {
///         load.set(|report| {
///             report.request_cost.insert("rows".to_owned(), 120.0);
///         });
///     }
///     Ok(tonic::Response::new(()))
/// }
/// ```
#[derive(Clone, Debug, Default)]
pub struct CallLoad(Arc<Mutex<LoadReport>>);

impl CallLoad {
    /// Changes the report. The recorder's figures are used for all that is 0 or absent at the end.
    pub fn set(&self, change: impl FnOnce(&mut LoadReport)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The recorder's report, overridden by what was set here.
    pub(super) fn over(&self, mut report: LoadReport) -> LoadReport {
        let own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let figures = [
            (&mut report.cpu_utilization, own.cpu_utilization),
            (&mut report.mem_utilization, own.mem_utilization),
            (&mut report.application_utilization, own.application_utilization),
            (&mut report.rps_fractional, own.rps_fractional),
            (&mut report.eps, own.eps),
        ];
        for (figure, own) in figures {
            if own != 0.0 {
                *figure = own;
            }
        }
        let named = [
            (&mut report.request_cost, &own.request_cost),
            (&mut report.utilization, &own.utilization),
            (&mut report.named_metrics, &own.named_metrics),
        ];
        for (named, own) in named {
            named.extend(own.iter().map(|(name, value)| (name.clone(), *value)));
        }
        report
    }
}
