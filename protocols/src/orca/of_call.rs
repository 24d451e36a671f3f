//! What a handler says of its own call.

use std::sync::{Arc, Mutex, PoisonError};

use callboard_core::LoadReport;

/// What the report of one call says beside the recorder's figures. A handler finds it in the extensions of its request, if
/// there is a [`LoadReportLayer`](super::LoadReportLayer) around it; what it sets until the response ends goes along.
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
    /// Changes it. What is 0 or absent in the end is as the recorder says; the rest is as it was set here.
    pub fn set(&self, change: impl FnOnce(&mut LoadReport)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The recorder's report, and over it what was set here.
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
