//! Who is dialled, and when there is something to do.

use std::sync::Arc;

use callboard_core::Connect;
use tokio::time::{Duration, Instant};

use super::plan::Walk;
use super::subchannel::Subchannel;
use super::{Control, Parts};

/// How many attempts are begun in a row, and how long the next ones wait then: thousands that fail at once, each of which
/// costs little, would leave no time to others on this thread.
const MOST_BEGUN: usize = 16;
const BETWEEN: Duration = Duration::from_millis(4);

impl Control {
    /// Asks the balancer anew which endpoints to connect. While an external balancer's list decides, they all are.
    pub(super) fn replan(&mut self) {
        self.walk = self.walk();
        self.roster.want(self.walk.is_none());
    }

    fn walk(&self) -> Option<Walk> {
        if self.by_list {
            return None;
        }
        match self.parts.balancer.connect(self.roster.endpoints()) {
            Connect::InOrder { order, attempt_delay } => {
                let subchannels = order.iter().filter_map(|index| self.roster.subchannels().get(*index));
                Some(Walk::new(subchannels.map(Subchannel::number), attempt_delay))
            }
            // `Connect` may grow; what this channel does not know it treats as the default.
            _ => None,
        }
    }

    pub(super) fn dial_what_is_due(&mut self) {
        let now = Instant::now();
        if self.roster.tend_lines(now) {
            self.widen();
        }
        if let Some(walk) = &mut self.walk {
            if walk.keep(&mut self.roster) {
                return;
            }
            walk.step(&mut self.roster, now).into_iter().for_each(|place| self.dial(place));
        }
        if now < self.dial_from {
            return;
        }
        for _ in 0..MOST_BEGUN {
            let Some(place) = self.roster.census().next_due(now, self.parts.max_dials) else { return };
            self.dial(place);
        }
        self.dial_from = now + BETWEEN;
    }

    /// Opens one more connection to each endpoint that calls wait for a place at, if it may have more.
    pub(super) fn widen(&mut self) {
        let (now, most) = (Instant::now(), self.parts.most_connections);
        if most == 1 {
            return;
        }
        let all = self.roster.subchannels().iter().enumerate();
        let crowded: Vec<_> = all.filter(|(_, one)| one.is_crowded(most, now)).map(|(place, _)| place).collect();
        crowded.into_iter().for_each(|place| self.dial(place));
    }

    fn dial(&mut self, place: usize) {
        self.last_id += 1;
        let (id, Parts { connector, settings, .. }, reports) = (self.last_id, &self.parts, &self.reports);
        self.roster.change(place, |subchannel| {
            subchannel.dial(id, Arc::clone(connector), settings.clone(), reports.clone());
        });
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        let census = self.roster.census();
        let dial_at = match &self.walk {
            Some(_) if self.roster.any_ready() => None,
            walk => {
                let first_pass = walk.as_ref().and_then(Walk::next_at);
                let due_at = census.due_at(self.parts.max_dials).map(|at| at.max(self.dial_from));
                first_pass.into_iter().chain(due_at).min()
            }
        };
        let others = [census.lines_at(), census.hopes_end_at(Instant::now()), self.rotation.renew_at()];
        dial_at.into_iter().chain(others.into_iter().flatten()).min()
    }
}
