//! When an endpoint is dialled again.

use callboard_core::{Backoff, BackoffState, later};
use tokio::time::{Duration, Instant};

use crate::transport::Parting;

/// A connection without a response has to last this long to be replaced at once.
pub(in crate::control) const YOUNG: Duration = Duration::from_secs(1);
/// The shortest time between two dials while calls wait for an endpoint whose connections end young.
const ASKED_FOR: Duration = Duration::from_millis(100);

/// The life of one connection that has ended.
#[derive(Clone, Copy, Debug)]
pub(in crate::control) struct Life {
    /// When its dial started.
    pub(in crate::control) begun: Instant,
    /// When it became ready.
    pub(in crate::control) ready: Instant,
    /// Whether a response was received on it.
    pub(in crate::control) answered: bool,
    /// Whether a request was sent on it.
    pub(in crate::control) used: bool,
    pub(in crate::control) parting: Parting,
}

/// When to dial next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Next {
    Now,
    /// The endpoint seems to work, but its connections do not last.
    Later(Rest),
    /// It accepts calls and does not answer them, or does not speak HTTP/2. Not to be dialled before this time.
    Failed(Instant),
}

/// A pause before an idle endpoint is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) struct Rest {
    begun: Instant,
    pub(in crate::control) until: Instant,
}

impl Rest {
    /// Shortens it: a call waits for the endpoint.
    pub(in crate::control) fn hurry(&mut self) {
        self.until = self.until.min(self.begun + ASKED_FOR);
    }
}

/// Paces the dials of one endpoint, as gRPC does: the wait grows with each failed attempt, and a connection that
/// becomes ready resets it, however soon it ends. Servers and proxies end young connections for their own reasons, such
/// as a limit of requests for each. gRPC leaves open how often to dial a peer that accepts every connection and closes
/// it unused: docs/decisions/young-connections.md.
#[derive(Debug)]
pub(in crate::control) struct Pace {
    /// The backoff after failed attempts.
    failed: BackoffState,
    /// The backoff after connections that end young by a fault, or with calls of which none was answered.
    unanswered: BackoffState,
    /// Whether the last connection ended young and unanswered.
    young: bool,
    /// The last wait.
    wait: Duration,
    /// When a restart of the server has reset the waits last.
    restarted: Option<Instant>,
}

impl Pace {
    pub(in crate::control) fn new(backoff: Backoff) -> Self {
        let (failed, unanswered) = (BackoffState::new(backoff.clone()), BackoffState::new(backoff));
        Self { failed, unanswered, young: false, wait: Duration::ZERO, restarted: None }
    }

    /// Whether a restart of the server may reset the waits: at most once in the time of the wait that it ends.
    /// Otherwise a registry that keeps reporting restarts would cause dials without pause.
    pub(in crate::control) fn may_restart(&mut self) -> bool {
        let now = Instant::now();
        let may = self.restarted.is_none_or(|at| later(at, self.wait) <= now);
        // A restart counts only if there is a wait to reset.
        if may && self.remembers() {
            self.restarted = Some(now);
        }
        may
    }

    /// Whether earlier failures affect the next dial.
    pub(in crate::control) fn remembers(&self) -> bool {
        self.young || self.failed.failures() > 0 || self.unanswered.failures() > 0
    }

    /// Notes that an attempt was cancelled. Returns when the next one may start, if not at once.
    pub(in crate::control) fn given_up(&mut self, begun: Instant) -> Option<Instant> {
        // As for connections that end young, a single one may have any reason.
        std::mem::replace(&mut self.young, true).then(|| self.failed(begun))
    }

    /// Resets all waits, because the endpoint probably works now.
    pub(in crate::control) fn reset(&mut self) {
        self.failed.succeeded();
        self.unanswered.succeeded();
        self.young = false;
    }

    /// Notes that an attempt that started at this time has failed. Returns when the next one may start.
    pub(in crate::control) fn failed(&mut self, begun: Instant) -> Instant {
        self.wait = self.failed.failed();
        later(begun, self.wait)
    }

    /// Notes that a connection is ready.
    pub(in crate::control) fn ready(&mut self) {
        self.failed.succeeded();
    }

    /// Notes that a connection has ended. Returns when the next one is dialled.
    pub(in crate::control) fn ended(&mut self, life: Life) -> Next {
        // Even if it has answered calls before: it would flood the next connection as well.
        if life.parting == Parting::Flooded {
            self.wait = self.unanswered.failed();
            return Next::Failed(later(Instant::now(), self.wait));
        }
        if life.answered || life.ready.elapsed() >= YOUNG {
            self.reset();
            return Next::Now;
        }
        // A single such end may have any reason. Only the second in a row counts.
        if !std::mem::replace(&mut self.young, true) {
            return Next::Now;
        }
        match life.parting {
            Parting::Lost if !life.used => {}
            Parting::Announced => {}
            Parting::Lost | Parting::Broken | Parting::Flooded => {
                self.wait = self.unanswered.failed();
                return Next::Failed(later(life.begun, self.wait));
            }
        }
        self.wait = YOUNG;
        Next::Later(Rest { begun: life.begun, until: life.begun + YOUNG })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace() -> Pace {
        Pace::new(Backoff::CONNECTION)
    }

    fn life(answered: bool, used: bool, parting: Parting) -> Life {
        let now = Instant::now();
        Life { begun: now, ready: now, answered, used, parting }
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_answered_is_dialled_at_once_however_young_and_however_often() {
        let mut pace = pace();
        for parting in [Parting::Announced, Parting::Lost, Parting::Broken].repeat(100) {
            assert_eq!(pace.ended(life(true, true, parting)), Next::Now);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_unused_is_dialled_once_a_second_and_sooner_if_it_is_asked_for_and_never_fails() {
        let mut pace = pace();
        assert_eq!(pace.ended(life(false, false, Parting::Lost)), Next::Now);
        for parting in [Parting::Announced, Parting::Lost].repeat(100) {
            let life = life(false, false, parting);
            let Next::Later(mut rest) = pace.ended(life) else { panic!("it is well") };
            assert_eq!(rest.until - life.begun, YOUNG);
            rest.hurry();
            assert_eq!(rest.until - life.begun, ASKED_FOR);
            rest.hurry();
            assert_eq!(rest.until - life.begun, ASKED_FOR);
        }
        assert_eq!(pace.ended(life(true, true, Parting::Lost)), Next::Now);
        assert_eq!(pace.ended(life(false, false, Parting::Lost)), Next::Now, "the first again");
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_calls_and_hangs_up_is_failing_from_the_second_time_on_and_longer_each_time() {
        let mut pace = pace();
        assert_eq!(pace.ended(life(false, true, Parting::Lost)), Next::Now);
        let mut last = Duration::ZERO;
        for (used, parting) in [(true, Parting::Lost), (false, Parting::Broken)].repeat(2) {
            let life = life(false, used, parting);
            // A successful connection does not reset these waits.
            pace.ready();
            let Next::Failed(until) = pace.ended(life) else { panic!("it fails") };
            assert!(until - life.begun > last.mul_f64(1.05), "{:?} after {last:?}", until - life.begun);
            last = until - life.begun;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_floods_is_failing_whatever_it_has_answered_before() {
        let (mut pace, mut last) = (pace(), Duration::ZERO);
        for answered in [true, false, true] {
            let life = life(answered, answered, Parting::Flooded);
            tokio::time::advance(YOUNG * 10).await;
            let Next::Failed(until) = pace.ended(life) else { panic!("it fails") };
            assert!(until - Instant::now() > last.mul_f64(1.05), "{:?} after {last:?}", until - Instant::now());
            last = until - Instant::now();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_starts_the_waits_over_once_in_the_time_of_one() {
        let mut pace = pace();
        assert!(pace.may_restart() && pace.may_restart(), "nothing is waited for");
        let wait = pace.failed(Instant::now()) - Instant::now();
        assert!(pace.may_restart() && !pace.may_restart());
        tokio::time::advance(wait).await;
        assert!(pace.may_restart() && !pace.may_restart());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_becomes_ready_starts_the_waits_after_failed_attempts_over() {
        let mut pace = pace();
        for _ in 0..10 {
            pace.failed(Instant::now());
        }
        pace.ready();
        assert!(pace.failed(Instant::now()) - Instant::now() <= Duration::from_millis(1_200));
    }
}
