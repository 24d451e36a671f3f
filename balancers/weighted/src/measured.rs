//! The measured weight of one endpoint, by its load reports.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use callboard_core::{Endpoint, Instant, Load};

use crate::WeightedRoundRobinSettings;

/// The measured weight of an endpoint. It is an attribute of the endpoint, so it outlives pickers.
#[derive(Default)]
pub(crate) struct Measured(Mutex<State>);

#[derive(Default)]
struct State {
    /// Since when the connection is ready that the other fields belong to.
    ready_since: Option<Instant>,
    weight: f64,
    /// When the weight was reported last.
    updated: Option<Instant>,
    /// Since when it has been reported without a gap.
    reporting_since: Option<Instant>,
}

impl Measured {
    /// Notes a report. A report without usable figures is ignored: the former weight stays until it expires.
    pub(crate) fn note(&self, endpoint: &Endpoint, load: &Load, settings: &WeightedRoundRobinSettings) {
        let Some(weight) = load.report().capacity(settings.error_utilization_penalty) else { return };
        let mut state = self.state(endpoint);
        // Reports of a former connection, and reports that are known already, are ignored.
        let stale = state.ready_since.is_some_and(|since| load.at < since);
        if stale || state.updated.is_some_and(|updated| load.at <= updated) {
            return;
        }
        state.weight = weight;
        state.updated = Some(load.at);
        state.reporting_since.get_or_insert(load.at);
    }

    /// The weight in use. None if there is none yet, if it is still in the blackout period, or if it has expired.
    pub(crate) fn weight(&self, endpoint: &Endpoint, settings: &WeightedRoundRobinSettings) -> Option<f64> {
        let now = Instant::now();
        let mut state = self.state(endpoint);
        if now.saturating_duration_since(state.updated?) >= settings.weight_expiration_period {
            state.reporting_since = None;
        }
        let reported_for = now.saturating_duration_since(state.reporting_since?);
        (reported_for >= settings.blackout_period).then_some(state.weight)
    }

    /// Resets the state if the endpoint has a new connection.
    fn state(&self, endpoint: &Endpoint) -> MutexGuard<'_, State> {
        let ready_since = endpoint.ready_since();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.ready_since != ready_since {
            *state = State { ready_since, ..State::default() };
        }
        state
    }
}

impl fmt::Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Measured")
    }
}
