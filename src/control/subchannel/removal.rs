//! What becomes of a subchannel that the registry does not list any more.

use std::sync::Arc;

use callboard_core::{ConnectivityState, Endpoint, Instance};
use tokio::time::Instant;

use super::pace::YOUNG;
use super::phase::Phase;
use super::{Subchannel, lost};
use crate::transport::{End, Parting};

impl Subchannel {
    /// Ends what there is: the registry does not list it any more. What is left is when it may be dialled again, for the
    /// case that it comes back; None if that is at once.
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

    /// Until when it is worth to be kept after it has been [removed](Self::remove).
    pub(in crate::control) fn kept_until(&self) -> Instant {
        let soon = Instant::now() + YOUNG;
        self.phase.wake_at().map_or(soon, |at| at.max(soon))
    }

    /// The same after it has come back, under a number of its own.
    pub(in crate::control) fn come_back(self, number: u64, instance: &Arc<Instance>) -> Self {
        // Whoever still holds the former endpoint sees that it has ended.
        let endpoint = Endpoint::new(Arc::clone(self.endpoint.instance()));
        let mut back = Self { number, endpoint, wanted: false, status: Arc::default(), ..self };
        back.change_to(instance);
        back.note_state();
        back
    }
}

/// How an endpoint's connections end that the registry does not list any more.
fn left() -> End {
    End { why: "it has left the registry".to_owned(), parting: Parting::Announced, ..End::default() }
}
