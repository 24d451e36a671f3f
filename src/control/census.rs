//! What is counted over all subchannels, so that what happens to one costs no look at the others.

use std::collections::BTreeSet;

use callboard_core::ConnectivityState;
use tokio::time::Instant;

/// What is counted of one subchannel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Figures {
    pub(super) state: ConnectivityState,
    pub(super) failing: bool,
    pub(super) resting: bool,
    /// Attempts to connect that are under way.
    pub(super) attempts: usize,
    /// Whether one of them is of doubtful outcome: it was not connected before, or its last attempt has failed.
    pub(super) doubtful: bool,
    pub(super) due: Option<Due>,
    pub(super) hope: Hope,
    /// When to look after its further connections.
    pub(super) lines_at: Option<Instant>,
}

/// When a subchannel is to be dialled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Due {
    pub(super) at: Instant,
    /// Decides between those that are due at one moment. Drawn for each, so that no place in the registry is the last.
    pub(super) lot: u32,
    pub(super) doubtful: bool,
}

/// Whether calls that do not wait for ready may wait for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Hope {
    /// It fails, or there is nothing to wait for.
    None,
    /// Up to this time: its attempt has failed by then, or its turn has not come for as long as one takes.
    Until(Instant),
    Always,
}

/// Who is due, first come first.
type Queue = BTreeSet<(Instant, u32, usize)>;

/// The figures of all subchannels, by their places.
#[derive(Debug, Default)]
pub(super) struct Census {
    figures: Vec<Figures>,
    /// How many are in each state, by the state's number.
    states: [usize; 5],
    failing: BTreeSet<usize>,
    /// How many can be hoped for, until the latest of their times at most, and how many without an end.
    hopes: usize,
    hopes_end: Option<Instant>,
    always: usize,
    resting: BTreeSet<usize>,
    attempts: usize,
    doubtful_attempts: usize,
    /// Those that were connected and are to be connected again, and the others.
    due: Queue,
    doubtful_due: Queue,
    lines: BTreeSet<(Instant, usize)>,
}

impl Census {
    /// Counts one more, in the next place.
    pub(super) fn push(&mut self, figures: Figures) {
        self.figures.push(figures);
        self.add(self.figures.len() - 1, figures);
    }

    /// Takes over what has become of one.
    pub(super) fn note(&mut self, place: usize, figures: Figures) {
        let former = std::mem::replace(&mut self.figures[place], figures);
        if former != figures {
            self.remove(place, former);
            self.add(place, figures);
        }
    }

    fn add(&mut self, place: usize, figures: Figures) {
        self.states[figures.state as usize] += 1;
        self.attempts += figures.attempts;
        self.doubtful_attempts += usize::from(figures.doubtful);
        if figures.failing {
            self.failing.insert(place);
        }
        match figures.hope {
            Hope::None => {}
            Hope::Until(at) => {
                self.hopes += 1;
                self.hopes_end = self.hopes_end.max(Some(at));
            }
            Hope::Always => self.always += 1,
        }
        if figures.resting {
            self.resting.insert(place);
        }
        if let Some(due) = figures.due {
            self.queue(due).insert((due.at, due.lot, place));
        }
        if let Some(at) = figures.lines_at {
            self.lines.insert((at, place));
        }
    }

    fn remove(&mut self, place: usize, figures: Figures) {
        self.states[figures.state as usize] -= 1;
        self.attempts -= figures.attempts;
        self.doubtful_attempts -= usize::from(figures.doubtful);
        if figures.failing {
            self.failing.remove(&place);
        }
        match figures.hope {
            Hope::None => {}
            Hope::Until(_) => self.hopes -= 1,
            Hope::Always => self.always -= 1,
        }
        if figures.resting {
            self.resting.remove(&place);
        }
        if let Some(due) = figures.due {
            self.queue(due).remove(&(due.at, due.lot, place));
        }
        if let Some(at) = figures.lines_at {
            self.lines.remove(&(at, place));
        }
    }

    fn queue(&mut self, due: Due) -> &mut Queue {
        if due.doubtful { &mut self.doubtful_due } else { &mut self.due }
    }

    pub(super) fn count(&self, state: ConnectivityState) -> usize {
        self.states[state as usize]
    }

    /// Whether one that is not ready may become so soon.
    pub(super) fn is_hopeful(&self, now: Instant) -> bool {
        self.always > 0 || self.hopes > 0 && self.hopes_end.is_some_and(|end| now < end)
    }

    /// When there is nothing to hope for any more, if nothing happens until then.
    pub(super) fn hopes_end_at(&self, now: Instant) -> Option<Instant> {
        let only_hope = self.hopes > 0 && self.always == 0 && self.count(ConnectivityState::Ready) == 0;
        self.hopes_end.filter(|end| only_hope && now < *end)
    }

    /// The last one that fails.
    pub(super) fn last_failing(&self) -> Option<usize> {
        self.failing.last().copied()
    }

    pub(super) fn resting(&self) -> impl Iterator<Item = usize> {
        self.resting.iter().copied()
    }

    /// Whom to dial next, while no more than so many attempts may be under way.
    pub(super) fn next_due(&self, now: Instant, most: usize) -> Option<usize> {
        let (at, _, place) = self.first_due(most)?;
        (at <= now).then_some(place)
    }

    /// When somebody is to be dialled next, if that does not hang on an attempt that is under way.
    pub(super) fn due_at(&self, most: usize) -> Option<Instant> {
        self.first_due(most).map(|(at, ..)| at)
    }

    /// Attempts of doubtful outcome leave a quarter of the places to others: silent addresses, however many, do not keep
    /// those waiting that were connected and have to be again, as after a server's maximum age.
    fn first_due(&self, most: usize) -> Option<(Instant, u32, usize)> {
        let proven = self.due.first().filter(|_| self.attempts < most);
        let leaves_room = self.attempts < most && self.doubtful_attempts < most - most / 4;
        let doubtful = self.doubtful_due.first().filter(|_| leaves_room);
        match (proven, doubtful) {
            (Some(proven), Some(doubtful)) if doubtful.0 < proven.0 => Some(*doubtful),
            (proven, doubtful) => proven.or(doubtful).copied(),
        }
    }

    /// Whose further connections to look after.
    pub(super) fn next_lines(&self, now: Instant) -> Option<usize> {
        self.lines.first().filter(|(at, _)| *at <= now).map(|(_, place)| *place)
    }

    pub(super) fn lines_at(&self) -> Option<Instant> {
        self.lines.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn due(at: Instant, doubtful: bool) -> Figures {
        let due = Some(Due { at, lot: 0, doubtful });
        let (state, hope) = (ConnectivityState::Idle, Hope::Always);
        Figures { state, failing: false, resting: false, attempts: 0, doubtful: false, due, hope, lines_at: None }
    }

    fn dialled(doubtful: bool) -> Figures {
        let (state, due, attempts) = (ConnectivityState::Connecting, None, 1);
        Figures { state, due, attempts, doubtful, ..self::due(Instant::now(), doubtful) }
    }

    #[test]
    fn who_is_due_first_is_dialled_first_and_a_quarter_of_the_places_is_for_who_was_connected() {
        let now = Instant::now();
        let ago = |seconds| now - Duration::from_secs(seconds);
        let mut census = Census::default();
        let all = [(10, true), (9, true), (8, false), (7, true), (6, true), (5, false), (4, false)];
        all.into_iter().for_each(|(seconds, doubtful)| census.push(due(ago(seconds), doubtful)));
        let mut order = Vec::new();
        while let Some(place) = census.next_due(now, 4) {
            order.push(place);
            census.note(place, dialled(all[place].1));
        }
        assert_eq!(order, [0, 1, 2, 3], "all four places are taken");
        assert_eq!(census.due_at(4), None);
        // A doubtful one has failed. The places of its kind are three.
        census.note(0, due(now + Duration::from_secs(1), true));
        assert_eq!(census.next_due(now, 4), Some(4));
        census.note(4, dialled(true));
        census.note(2, due(now + Duration::from_secs(1), false));
        assert_eq!(census.next_due(now, 4), Some(5), "the fourth is for who was connected");
    }

    #[test]
    fn one_place_is_for_anybody() {
        let mut census = Census::default();
        census.push(due(Instant::now(), true));
        assert_eq!(census.next_due(Instant::now(), 1), Some(0));
    }

    #[test]
    fn hope_ends_with_the_last_time_or_never() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut census = Census::default();
        let hopeful = |hope| Figures { hope, ..due(now, true) };
        assert!(!census.is_hopeful(now));
        census.push(hopeful(Hope::Until(now + second)));
        census.push(hopeful(Hope::Until(now + 2 * second)));
        assert!(census.is_hopeful(now + second) && !census.is_hopeful(now + 2 * second));
        assert_eq!(census.hopes_end_at(now), Some(now + 2 * second));
        census.note(0, hopeful(Hope::Always));
        assert!(census.is_hopeful(now + 2 * second));
        assert_eq!(census.hopes_end_at(now), None);
    }
}
