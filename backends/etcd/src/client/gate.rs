//! Limits calls while etcd is out of reach: one call at a time is made for all.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use callboard_core::{Backoff, BackoffState, Error, ErrorKind, Result};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::error::{is_passing, timed_out};

/// How long all attempts of a call may take.
const CALL: Duration = Duration::from_secs(5);
/// How long the other calls wait for one that is answered.
const TURN: Duration = Duration::from_secs(2);
/// How many calls are made at a time. If a thousand services asked at once, a busy etcd would answer many of them only
/// after their time is up.
const AT_A_TIME: usize = 64;

/// Lets calls pass while etcd answers. When etcd may be out of reach, it lets one pass at a time, with a pause after
/// each failure, until one is answered. However many services wait, etcd is asked as often as for one.
pub(super) struct Gate {
    state: Mutex<State>,
    places: Semaphore,
    /// Held by the one call that is made for all.
    turn: tokio::sync::Mutex<()>,
}

struct State {
    /// Whether etcd may be out of reach.
    suspected: bool,
    /// When a call was answered last.
    answered: Option<Instant>,
    /// What the last call failed with. None if one was answered since.
    error: Option<Error>,
    retry: BackoffState,
    not_before: Instant,
}

impl Default for Gate {
    /// Until the first answer, etcd may be out of reach.
    fn default() -> Self {
        let retry = BackoffState::new(Backoff::PROBE);
        let state = State { suspected: true, answered: None, error: None, retry, not_before: Instant::now() };
        Self { state: Mutex::new(state), places: Semaphore::new(AT_A_TIME), turn: tokio::sync::Mutex::default() }
    }
}

impl Gate {
    /// Makes a call when it is its turn.
    ///
    /// # Errors
    /// Those of the call, or that etcd is out of reach, if its turn has not come after a while.
    pub(super) async fn pass<T>(&self, what: &str, call: impl Future<Output = Result<T>>) -> Result<T> {
        let turn = self.in_turn(Instant::now() + TURN).await.ok_or_else(|| self.out_of_reach(what))?;
        let place = timeout(CALL, self.places.acquire()).await.map_err(|_| timed_out(what))?;
        let begun = Instant::now();
        let outcome = timeout(CALL, call).await.unwrap_or_else(|_| Err(timed_out(what)));
        self.note(begun, outcome.as_ref().err());
        drop((turn, place));
        outcome
    }

    /// Notes that etcd may be out of reach.
    pub(super) fn suspect(&self) {
        self.state().suspected = true;
    }

    /// Waits for its turn if etcd may be out of reach. The value is held for as long as the call is the one that is
    /// made for all. None if its turn does not come in time.
    async fn in_turn(&self, until: Instant) -> Option<Option<impl Sized + '_>> {
        if !self.state().suspected {
            return Some(None);
        }
        let turn = async {
            let turn = self.turn.lock().await;
            let not_before = self.state().not_before;
            if self.state().suspected && Instant::now() < not_before {
                sleep_until(not_before).await;
            }
            turn
        };
        let turn = timeout_at(until, turn).await.ok()?;
        // Another call may have been answered meanwhile, and then all may pass.
        Some(self.state().suspected.then_some(turn))
    }

    fn out_of_reach(&self, what: &str) -> Error {
        let Some(error) = self.state().error.clone() else { return timed_out(what) };
        Error::new(ErrorKind::Unavailable, format!("cannot {what}: etcd is out of reach")).with_source(error)
    }

    fn note(&self, begun: Instant, error: Option<&Error>) {
        let (now, mut state) = (Instant::now(), self.state());
        match error.filter(|error| is_passing(error)) {
            None => {
                (state.suspected, state.error, state.answered) = (false, None, Some(now));
                state.retry.succeeded();
            }
            // With one of three members dead some calls fail among many that do not.
            Some(_) if state.answered.is_some_and(|answered| answered > begun) => {}
            Some(error) => {
                (state.suspected, state.error) = (true, Some(error.clone()));
                state.not_before = now + state.retry.failed();
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;
    use tokio::time::sleep;

    use super::*;

    fn error(kind: ErrorKind) -> Error {
        Error::new(kind, "broken on purpose")
    }

    /// A thousand calls at a time, with this outcome: how many of them were made, and what they came to.
    async fn calls(gate: &Gate, outcome: impl Fn() -> Result<()>) -> (usize, Vec<Result<()>>) {
        let made = AtomicUsize::new(0);
        let call = || async {
            made.fetch_add(1, Ordering::Relaxed);
            sleep(Duration::from_millis(1)).await;
            outcome()
        };
        let outcomes = join_all((0..1_000).map(|_| gate.pass("list", call()))).await;
        (made.load(Ordering::Relaxed), outcomes)
    }

    #[tokio::test(start_paused = true)]
    async fn while_etcd_is_out_of_reach_it_is_asked_as_often_as_for_one() {
        let gate = Gate::default();
        let begun = Instant::now();
        for _ in 0..3 {
            let (made, outcomes) = calls(&gate, || Err(error(ErrorKind::Unavailable))).await;
            assert!((1..=12).contains(&made), "{made} calls were made in two seconds");
            let waited = outcomes.last().expect("a thousand").as_ref().expect_err("out of reach");
            assert_eq!(waited.chain(), "cannot list: etcd is out of reach: broken on purpose");
        }
        assert!(begun.elapsed() <= TURN * 3 + Duration::from_millis(50), "{:?}", begun.elapsed());
        let (made, outcomes) = calls(&gate, || Ok(())).await;
        assert_eq!(
            (made, outcomes.iter().filter(|outcome| outcome.is_ok()).count()),
            (1_000, 1_000),
            "one is made, then all"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn any_answer_of_etcd_opens_the_gate() {
        let gate = Gate::default();
        assert_eq!(calls(&gate, || Err(error(ErrorKind::Denied))).await.0, 1_000);
        gate.suspect();
        assert_eq!(calls(&gate, || Ok(())).await.0, 1_000);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_fails_among_others_that_are_answered_does_not_close_the_gate() {
        let gate = Gate::default();
        gate.pass("list", ready(Ok(()))).await.expect("an answer");
        let fails = async {
            sleep(Duration::from_millis(10)).await;
            Err::<(), _>(error(ErrorKind::Unavailable))
        };
        let answered = async {
            sleep(Duration::from_millis(5)).await;
            gate.pass("list", ready(Ok(()))).await
        };
        let (failed, answered) = tokio::join!(gate.pass("list", fails), answered);
        failed.expect_err("it failed");
        answered.expect("an answer");
        assert!(!gate.state().suspected);
    }

    #[tokio::test(start_paused = true)]
    async fn no_call_waits_for_ever() {
        let gate = Gate::default();
        let begun = Instant::now();
        let unanswered = || gate.pass("list", pending::<Result<()>>());
        let (first, second) = tokio::join!(unanswered(), unanswered());
        for outcome in [first, second] {
            assert_eq!(outcome.expect_err("there is no answer").kind(), ErrorKind::Timeout);
        }
        assert_eq!(begun.elapsed().as_secs(), CALL.as_secs());
        // A call that is given up leaves the turn to the next.
        let given_up = timeout(Duration::from_millis(600), unanswered()).await;
        assert!(given_up.is_err());
        gate.pass("list", ready(Ok(()))).await.expect("an answer");
    }
}
