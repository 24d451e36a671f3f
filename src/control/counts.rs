//! Figures over all subchannels, kept up to date so that a change of one needs no scan of the others.

use std::collections::BTreeSet;

use callboard_core::ConnectivityState;
use tokio::time::{Duration, Instant};

/// The settings of the channel that the subchannels need.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// How long an extra connection may be idle.
    pub(super) extra_idle: Duration,
    /// How long an attempt to connect may take.
    pub(super) connect_timeout: Duration,
}

/// What one subchannel contributes to the figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Counted {
    pub(super) state: ConnectivityState,
    pub(super) failing: bool,
    pub(super) resting: bool,
    /// Attempts to connect that are running.
    pub(super) attempts: usize,
    /// Whether the outcome of one of them is doubtful: it was not connected before, or its last attempt has failed.
    pub(super) doubtful: bool,
    pub(super) due: Option<Due>,
    pub(super) hope: Hope,
    /// When to check its extra connections.
    pub(super) extra_connections_at: Option<Instant>,
}

/// When a subchannel is to be dialled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Due {
    pub(super) at: Instant,
    /// A random number that decides between those that are due at the same time, so that the order in the registry does
    /// not matter.
    pub(super) lot: u32,
    pub(super) doubtful: bool,
}

/// Whether calls without wait-for-ready may wait for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Hope {
    /// It is failing, or there is nothing to wait for.
    None,
    /// Up to this time. By then its attempt has failed, or has not started for as long as an attempt takes.
    Until(Instant),
    Always,
}

/// Subchannels that are to be dialled, in order.
type Queue = BTreeSet<(Instant, u32, usize)>;

/// The figures of all subchannels, by their places.
#[derive(Debug, Default)]
pub(super) struct Counts {
    counted: Vec<Counted>,
    /// How many are in each state, by the state's number.
    states: [usize; 5],
    failing: BTreeSet<usize>,
    /// How many have [`Hope::Until`], the latest time of these so far, and how many have [`Hope::Always`].
    hopes: usize,
    hopes_end: Option<Instant>,
    always: usize,
    resting: BTreeSet<usize>,
    attempts: usize,
    doubtful_attempts: usize,
    /// Two queues: subchannels that were connected before, and the others.
    due: Queue,
    doubtful_due: Queue,
    extra_connections: BTreeSet<(Instant, usize)>,
}

impl Counts {
    /// Adds one more, in the next place.
    pub(super) fn push(&mut self, counted: Counted) {
        self.counted.push(counted);
        self.add(self.counted.len() - 1, counted);
    }

    /// Updates the figures of one.
    pub(super) fn note(&mut self, place: usize, counted: Counted) {
        let former = std::mem::replace(&mut self.counted[place], counted);
        if former != counted {
            self.remove(place, former);
            self.add(place, counted);
        }
    }

    fn add(&mut self, place: usize, counted: Counted) {
        self.states[counted.state as usize] += 1;
        self.attempts += counted.attempts;
        self.doubtful_attempts += usize::from(counted.doubtful);
        if counted.failing {
            self.failing.insert(place);
        }
        match counted.hope {
            Hope::None => {}
            Hope::Until(at) => {
                self.hopes += 1;
                self.hopes_end = self.hopes_end.max(Some(at));
            }
            Hope::Always => self.always += 1,
        }
        if counted.resting {
            self.resting.insert(place);
        }
        if let Some(due) = counted.due {
            self.queue(due).insert((due.at, due.lot, place));
        }
        if let Some(at) = counted.extra_connections_at {
            self.extra_connections.insert((at, place));
        }
    }

    fn remove(&mut self, place: usize, counted: Counted) {
        self.states[counted.state as usize] -= 1;
        self.attempts -= counted.attempts;
        self.doubtful_attempts -= usize::from(counted.doubtful);
        if counted.failing {
            self.failing.remove(&place);
        }
        match counted.hope {
            Hope::None => {}
            Hope::Until(_) => self.hopes -= 1,
            Hope::Always => self.always -= 1,
        }
        if counted.resting {
            self.resting.remove(&place);
        }
        if let Some(due) = counted.due {
            self.queue(due).remove(&(due.at, due.lot, place));
        }
        if let Some(at) = counted.extra_connections_at {
            self.extra_connections.remove(&(at, place));
        }
    }

    fn queue(&mut self, due: Due) -> &mut Queue {
        if due.doubtful { &mut self.doubtful_due } else { &mut self.due }
    }

    pub(super) fn of(&self, state: ConnectivityState) -> usize {
        self.states[state as usize]
    }

    /// Whether one that is not ready may become so soon.
    pub(super) fn is_hopeful(&self, now: Instant) -> bool {
        self.always > 0 || self.hopes > 0 && self.hopes_end.is_some_and(|end| now < end)
    }

    /// When no endpoint may become ready any more, if nothing changes until then.
    pub(super) fn hopes_end_at(&self, now: Instant) -> Option<Instant> {
        let only_hope = self.hopes > 0 && self.always == 0 && self.of(ConnectivityState::Ready) == 0;
        self.hopes_end.filter(|end| only_hope && now < *end)
    }

    /// The last one that is failing.
    pub(super) fn last_failing(&self) -> Option<usize> {
        self.failing.last().copied()
    }

    pub(super) fn resting(&self) -> impl Iterator<Item = usize> {
        self.resting.iter().copied()
    }

    /// Which one to dial next. `most` bounds the attempts that run at the same time.
    pub(super) fn next_due(&self, now: Instant, most: usize) -> Option<usize> {
        let (at, _, place) = self.first_due(most)?;
        (at <= now).then_some(place)
    }

    /// When the next one is due. None if that depends on a running attempt.
    pub(super) fn due_at(&self, most: usize) -> Option<Instant> {
        self.first_due(most).map(|(at, ..)| at)
    }

    /// The first that is due. Doubtful attempts leave a quarter of the limit to others. So silent addresses, however
    /// many, do not delay endpoints that have to be reconnected, for instance after a server's maximum connection age.
    fn first_due(&self, most: usize) -> Option<(Instant, u32, usize)> {
        let proven = self.due.first().filter(|_| self.attempts < most);
        let leaves_room = self.attempts < most && self.doubtful_attempts < most - most / 4;
        let doubtful = self.doubtful_due.first().filter(|_| leaves_room);
        match (proven, doubtful) {
            (Some(proven), Some(doubtful)) if doubtful.0 < proven.0 => Some(*doubtful),
            (proven, doubtful) => proven.or(doubtful).copied(),
        }
    }

    /// The subchannel whose extra connections are to be checked.
    pub(super) fn next_extra_connections(&self, now: Instant) -> Option<usize> {
        self.extra_connections.first().filter(|(at, _)| *at <= now).map(|(_, place)| *place)
    }

    pub(super) fn extra_connections_at(&self) -> Option<Instant> {
        self.extra_connections.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(at: Instant, doubtful: bool) -> Counted {
        let due = Some(Due { at, lot: 0, doubtful });
        let (state, hope) = (ConnectivityState::Idle, Hope::Always);
        Counted {
            state,
            failing: false,
            resting: false,
            attempts: 0,
            doubtful: false,
            due,
            hope,
            extra_connections_at: None,
        }
    }

    fn dialled(doubtful: bool) -> Counted {
        let (state, due, attempts) = (ConnectivityState::Connecting, None, 1);
        Counted { state, due, attempts, doubtful, ..self::due(Instant::now(), doubtful) }
    }

    #[test]
    fn who_is_due_first_is_dialled_first_and_a_quarter_of_the_places_is_for_who_was_connected() {
        let now = Instant::now();
        let ago = |seconds| now - Duration::from_secs(seconds);
        let mut counts = Counts::default();
        let all = [(10, true), (9, true), (8, false), (7, true), (6, true), (5, false), (4, false)];
        all.into_iter().for_each(|(seconds, doubtful)| counts.push(due(ago(seconds), doubtful)));
        let mut order = Vec::new();
        while let Some(place) = counts.next_due(now, 4) {
            order.push(place);
            counts.note(place, dialled(all[place].1));
        }
        assert_eq!(order, [0, 1, 2, 3], "all four places are taken");
        assert_eq!(counts.due_at(4), None);
        // A doubtful attempt has failed. At most three of the four may be doubtful.
        counts.note(0, due(now + Duration::from_secs(1), true));
        assert_eq!(counts.next_due(now, 4), Some(4));
        counts.note(4, dialled(true));
        counts.note(2, due(now + Duration::from_secs(1), false));
        assert_eq!(counts.next_due(now, 4), Some(5), "the fourth is for one that was connected before");
    }

    #[test]
    fn a_single_attempt_may_be_doubtful() {
        let mut counts = Counts::default();
        counts.push(due(Instant::now(), true));
        assert_eq!(counts.next_due(Instant::now(), 1), Some(0));
    }

    #[test]
    fn hope_ends_with_the_last_time_or_never() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut counts = Counts::default();
        let hopeful = |hope| Counted { hope, ..due(now, true) };
        assert!(!counts.is_hopeful(now));
        counts.push(hopeful(Hope::Until(now + second)));
        counts.push(hopeful(Hope::Until(now + 2 * second)));
        assert!(counts.is_hopeful(now + second) && !counts.is_hopeful(now + 2 * second));
        assert_eq!(counts.hopes_end_at(now), Some(now + 2 * second));
        counts.note(0, hopeful(Hope::Always));
        assert!(counts.is_hopeful(now + 2 * second));
        assert_eq!(counts.hopes_end_at(now), None);
    }
}
