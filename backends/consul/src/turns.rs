//! Blocking queries take turns where they are more than the connections that the agent grants.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use callboard_core::{Error, ErrorKind, Result};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

/// How many requests are under way at once that are answered at once.
pub(crate) const SHORT: usize = 16;
/// How many leases look at their entries by a blocking query; see [`Guards`](crate::guard::Guards).
pub(crate) const GUARDS: usize = 8;
/// The fewest connections that a client can do with.
pub(crate) const FEWEST: usize = 40;

/// Where there are turns, everybody has one in so long, and in so long for each who takes part.
const ROUND: Duration = Duration::from_secs(2);
const ROUND_EACH: Duration = Duration::from_millis(10);
/// How much longer than it is to wait a query may take, and more.
const SPARE: Duration = Duration::from_secs(15);
/// A query of one who has just begun waits so long.
const FIRST: Duration = Duration::from_secs(1);

/// The places for blocking queries of one kind.
#[derive(Debug)]
pub(crate) struct Turns {
    places: Arc<Semaphore>,
    size: usize,
    /// Whether the agent goes on waiting, and keeps the connection, when a query is dropped.
    lingers: bool,
    askers: AtomicUsize,
}

/// Of so many connections at most, the places for sets and those for configs, if those are wanted.
pub(crate) fn shared_out(connections: usize, configs: bool) -> (Arc<Turns>, Arc<Turns>) {
    // One more is for the question whether the agent is there.
    let places = connections.saturating_sub(SHORT + GUARDS + 1);
    let for_configs = if configs { places / 3 } else { 0 };
    // A query for a service ends with its connection; one for a key goes on in Consul's servers.
    (Turns::new(places - for_configs, false), Turns::new(for_configs, true))
}

impl Turns {
    fn new(size: usize, lingers: bool) -> Arc<Self> {
        Arc::new(Self { places: Arc::new(Semaphore::new(size)), size, lingers, askers: AtomicUsize::new(0) })
    }

    /// Takes part from now on.
    pub(crate) fn asker(self: &Arc<Self>) -> Asker {
        self.askers.fetch_add(1, Ordering::Relaxed);
        Asker { turns: Arc::clone(self), since: Instant::now() }
    }

    /// How long each may wait in the agent. With a quarter of the places free nobody waits for a turn; those who come
    /// then find one, though all others have just begun to wait for long.
    fn wait(&self, longest: Duration) -> Duration {
        let askers = self.askers.load(Ordering::Relaxed);
        if askers * 4 <= self.size * 3 {
            return longest;
        }
        let round = ROUND.max(ROUND_EACH * u32::try_from(askers).unwrap_or(u32::MAX));
        round.mul_f64(self.size as f64 / askers as f64).min(longest)
    }
}

/// One who asks again and again.
#[derive(Debug)]
pub(crate) struct Asker {
    turns: Arc<Turns>,
    since: Instant,
}

impl Asker {
    /// Waits for a turn, and says how long a query may wait then, `longest` at most.
    ///
    /// One who is young waits no longer than it is old: of those who begin together, none keeps its place for long
    /// before it is seen how many they are.
    ///
    /// # Errors
    /// `Timeout`, if no place has become free in twice the time that anybody may keep one: they are kept by watches that
    /// nobody polls.
    pub(crate) async fn turn(&self, longest: Duration) -> Result<(Turn, Duration)> {
        let place = timeout(longest * 2 + SPARE, Arc::clone(&self.turns.places).acquire_owned()).await;
        let kept = || format!("all {} places for queries are kept by watches that are not polled", self.turns.size);
        let place = place.map_err(|_| Error::new(ErrorKind::Timeout, kept()))?;
        let wait = self.turns.wait(longest).min(self.since.elapsed().max(FIRST));
        // They are never closed, so there is a place.
        Ok((Turn { place: place.ok(), until: self.turns.lingers.then(|| Instant::now() + wait) }, wait))
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.turns.askers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place for one query.
#[derive(Debug)]
pub(crate) struct Turn {
    place: Option<OwnedSemaphorePermit>,
    /// Until when the agent counts the connection of a query that is dropped.
    until: Option<Instant>,
}

impl Turn {
    /// Gives the place to the next one: the query is answered, or its connection has failed.
    pub(crate) fn over(mut self) {
        self.place = None;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (Some(place), Some(until)) = (self.place.take(), self.until) else { return };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                sleep_until(until).await;
                drop(place);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(30);

    #[test]
    fn the_places_together_are_not_more_than_the_connections() {
        for connections in [FEWEST, 100, 101, 1_000] {
            for configs in [true, false] {
                let (sets, keys) = shared_out(connections, configs);
                assert_eq!(sets.size + keys.size + SHORT + GUARDS + 1, connections);
                assert!(sets.size >= 10 && (keys.size >= 5 || !configs), "{connections}: {sets:?} {keys:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_has_its_turn_in_a_round_and_waits_long_where_there_is_room() {
        let (sets, _) = shared_out(100, true);
        for (askers, round) in
            [(1, None), (37, None), (150, Some(2.0)), (200, Some(2.0)), (500, Some(5.0)), (1_000, Some(10.0))]
        {
            let all: Vec<_> = (0..askers).map(|_| sets.asker()).collect();
            tokio::time::sleep(LONGEST).await;
            let (turn, wait) = all[0].turn(LONGEST).await.unwrap();
            turn.over();
            match round {
                None => assert_eq!(wait, LONGEST, "{askers}"),
                Some(round) => {
                    let rounds = wait.as_secs_f64() * askers as f64 / sets.size as f64;
                    assert!((rounds - round).abs() < 0.01, "{askers}: a round of {rounds} s");
                }
            }
        }
        assert_eq!(sets.askers.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_young_do_not_keep_a_place_for_long() {
        let (sets, _) = shared_out(100, true);
        let asker = sets.asker();
        assert_eq!(asker.turn(LONGEST).await.unwrap().1, FIRST);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(asker.turn(LONGEST).await.unwrap().1, Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_query_that_is_dropped_keeps_its_place_as_long_as_the_agent_does() {
        let (sets, keys) = shared_out(FEWEST, true);
        for (turns, kept) in [(sets, 0), (keys, 1)] {
            let (turn, _) = turns.asker().turn(LONGEST).await.unwrap();
            drop(turn);
            tokio::task::yield_now().await;
            assert_eq!(turns.places.available_permits(), turns.size - kept);
            tokio::time::sleep(FIRST * 2).await;
            assert_eq!(turns.places.available_permits(), turns.size);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_gets_no_turn_says_why() {
        let (sets, _) = shared_out(FEWEST, true);
        let asker = sets.asker();
        let mut kept = Vec::new();
        for _ in 0..sets.size {
            kept.push(asker.turn(LONGEST).await.unwrap());
        }
        let error = asker.turn(LONGEST).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("all 10 places"), "{error}");
    }
}
