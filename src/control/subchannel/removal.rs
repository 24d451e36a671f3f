//! Removal of a subchannel that the registry does not list any more.

use std::sync::Arc;

use callboard_core::{ConnectivityState, Endpoint, Instance};
use tokio::time::Instant;

use super::pace::YOUNG;
use super::phase::Phase;
use super::{Subchannel, lost};
use crate::transport::{End, Parting};

impl Subchannel {
    /// Closes the connections of a subchannel that the registry does not list any more. Returns the rest, which knows
    /// when the address may be dialled again if it is listed again; None if that is at once.
    pub(in crate::control) fn remove(mut self) -> Option<Self> {
        self.endpoint.set_state(ConnectivityState::Shutdown);
        self.oob_reports = None;
        self.extra.close_all();
        match self.phase {
            Phase::Connecting { since, .. } => {
                self.phase = match self.pace.given_up(since) {
                    Some(until) => Phase::Failing { until },
                    None => Phase::idle(),
                };
                self.last_error.get_or_insert_with(|| lost(left()));
            }
            Phase::Ready { .. } => self.lose(left()),
            _ => {}
        }
        self.pace.remembers().then_some(self)
    }

    /// Until when to keep it after it was [removed](Self::remove).
    pub(in crate::control) fn kept_until(&self) -> Instant {
        let soon = Instant::now() + YOUNG;
        self.phase.wake_at().map_or(soon, |at| at.max(soon))
    }

    /// The subchannel after it is listed again, under a new number.
    pub(in crate::control) fn come_back(self, number: u64, instance: &Arc<Instance>) -> Self {
        // Holders of the former endpoint keep seeing it as shut down.
        let endpoint = Endpoint::new(Arc::clone(self.endpoint.instance()));
        let mut back = Self { number, endpoint, wanted: false, status: Arc::default(), ..self };
        back.change_to(instance);
        back.note_state();
        back
    }
}

/// The end of the connections of an endpoint that the registry does not list any more.
fn left() -> End {
    End { why: "it was removed from the registry".to_owned(), parting: Parting::Announced, ..End::default() }
}
