//! The load report of an endpoint.

use std::sync::{Mutex, PoisonError};

use crate::Load;

/// The latest report. Calls write it and pickers read it. The lock is held only to copy a pointer.
#[derive(Default)]
pub(super) struct Reported(Mutex<Option<Load>>);

impl Reported {
    pub(super) fn get(&self) -> Option<Load> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the report. The former one is dropped after the lock is released.
    pub(super) fn set(&self, load: Load) {
        let _former = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(load);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::{Endpoint, Instance, Load, LoadReport};

    fn report(cpu_utilization: f64) -> LoadReport {
        LoadReport { cpu_utilization, ..LoadReport::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn the_later_report_is_the_load_whichever_way_it_came() {
        let endpoint = Endpoint::new(Instance::new("a", "127.0.0.1:1".parse().expect("an address")).expect("an id"));
        let seen = || endpoint.load().map(|load| load.report().cpu_utilization);
        assert_eq!((seen(), endpoint.out_of_band_load()), (None, None));
        let clone = endpoint.with_instance(endpoint.instance().as_ref().clone().with_weight(7));
        clone.set_load(Load::now(report(0.1)));
        assert_eq!((seen(), endpoint.out_of_band_load()), (Some(0.1), None), "the figures are shared");
        tokio::time::advance(Duration::from_secs(1)).await;
        let out_of_band = Load::now(report(0.2));
        endpoint.set_out_of_band_load(out_of_band.clone());
        assert_eq!((seen(), endpoint.out_of_band_load()), (Some(0.2), Some(out_of_band.clone())));
        tokio::time::advance(Duration::from_secs(1)).await;
        endpoint.set_load(Load::now(report(0.3)));
        assert_eq!((seen(), endpoint.out_of_band_load()), (Some(0.3), Some(out_of_band)));
    }
}
