//! Slots for blocking queries: there can be more queries than connections, and then they take turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use callboard_core::{Error, ErrorKind, Result};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};

/// How many requests that are answered at once are under way together.
pub(crate) const SHORT: usize = 16;
/// How many leases watch their entries by a blocking query.
pub(crate) const ENTRY_WATCHES: usize = 8;
/// The fewest connections that a client can do with.
pub(crate) const FEWEST_CONNECTIONS: usize = 40;

/// Where queries take turns, each has its turn within a round: this long, or this long for each querier if that is longer.
const ROUND: Duration = Duration::from_secs(2);
const ROUND_EACH: Duration = Duration::from_millis(10);
/// How much longer than its wait a query may take, with some time to spare.
const SPARE: Duration = Duration::from_secs(15);
/// How long the first query of a querier waits.
const FIRST: Duration = Duration::from_secs(1);

/// The slots for blocking queries of one kind.
#[derive(Debug)]
pub(crate) struct QuerySlots {
    free: Arc<Semaphore>,
    size: usize,
    /// Whether the agent goes on waiting, and keeps the connection, when a query is dropped.
    lingers: bool,
    queriers: AtomicUsize,
}

/// Of so many connections at most, the slots for sets and those for configs, if those are wanted.
pub(crate) fn shared_out(connections: usize, configs: bool) -> (Arc<QuerySlots>, Arc<QuerySlots>) {
    // One more is for the question whether the agent is there.
    let slots = connections.saturating_sub(SHORT + ENTRY_WATCHES + 1);
    let for_configs = if configs { slots / 3 } else { 0 };
    // A query for a service ends with its connection; one for a key goes on in Consul's servers.
    (QuerySlots::new(slots - for_configs, false), QuerySlots::new(for_configs, true))
}

impl QuerySlots {
    fn new(size: usize, lingers: bool) -> Arc<Self> {
        Arc::new(Self { free: Arc::new(Semaphore::new(size)), size, lingers, queriers: AtomicUsize::new(0) })
    }

    /// One more that asks, until it is dropped.
    pub(crate) fn querier(self: &Arc<Self>) -> Querier {
        self.queriers.fetch_add(1, Ordering::Relaxed);
        Querier { slots: Arc::clone(self), since: Instant::now() }
    }

    /// How long each query may wait in the agent. While a quarter of the slots is free, every query may wait for the
    /// whole time: a querier that is new then finds a slot, though all others have just begun to wait.
    fn wait(&self, longest: Duration) -> Duration {
        let queriers = self.queriers.load(Ordering::Relaxed);
        if queriers * 4 <= self.size * 3 {
            return longest;
        }
        let round = ROUND.max(ROUND_EACH * u32::try_from(queriers).unwrap_or(u32::MAX));
        round.mul_f64(self.size as f64 / queriers as f64).min(longest)
    }
}

/// A watch that sends one blocking query after the other.
#[derive(Debug)]
pub(crate) struct Querier {
    slots: Arc<QuerySlots>,
    since: Instant,
}

impl Querier {
    /// Waits for a slot. Returns it, and how long the query may wait in the agent: `longest` at most.
    ///
    /// A query waits no longer than its querier is old. So of many that begin together none keeps its slot for long
    /// before it is known how many they are.
    ///
    /// # Errors
    /// `Timeout`, if no slot has become free in twice the time that a query may keep one: they are kept by watches that
    /// are not polled.
    pub(crate) async fn slot(&self, longest: Duration) -> Result<(QuerySlot, Duration)> {
        let slot = timeout(longest * 2 + SPARE, Arc::clone(&self.slots.free).acquire_owned()).await;
        let taken = || format!("all {} slots for queries are taken by watches that are not polled", self.slots.size);
        let slot = slot.map_err(|_| Error::new(ErrorKind::Timeout, taken()))?;
        let wait = self.slots.wait(longest).min(self.since.elapsed().max(FIRST));
        // The semaphore is never closed, so there is a slot.
        Ok((QuerySlot { slot: slot.ok(), until: self.slots.lingers.then(|| Instant::now() + wait) }, wait))
    }
}

impl Drop for Querier {
    fn drop(&mut self) {
        self.slots.queriers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A slot for one query.
#[derive(Debug)]
pub(crate) struct QuerySlot {
    slot: Option<OwnedSemaphorePermit>,
    /// Until when the agent counts the connection of a query that is dropped.
    until: Option<Instant>,
}

impl QuerySlot {
    /// Frees the slot at once: the query is answered, or its connection has failed.
    pub(crate) fn free(mut self) {
        self.slot = None;
    }
}

impl Drop for QuerySlot {
    fn drop(&mut self) {
        let (Some(slot), Some(until)) = (self.slot.take(), self.until) else { return };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                sleep_until(until).await;
                drop(slot);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(30);

    #[test]
    fn the_slots_together_are_not_more_than_the_connections() {
        for connections in [FEWEST_CONNECTIONS, 100, 101, 1_000] {
            for configs in [true, false] {
                let (sets, keys) = shared_out(connections, configs);
                assert_eq!(sets.size + keys.size + SHORT + ENTRY_WATCHES + 1, connections);
                assert!(sets.size >= 10 && (keys.size >= 5 || !configs), "{connections}: {sets:?} {keys:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_query_has_its_turn_in_a_round_and_waits_long_while_slots_are_free() {
        let (sets, _) = shared_out(100, true);
        for (queriers, round) in
            [(1, None), (37, None), (150, Some(2.0)), (200, Some(2.0)), (500, Some(5.0)), (1_000, Some(10.0))]
        {
            let all: Vec<_> = (0..queriers).map(|_| sets.querier()).collect();
            tokio::time::sleep(LONGEST).await;
            let (slot, wait) = all[0].slot(LONGEST).await.unwrap();
            slot.free();
            match round {
                None => assert_eq!(wait, LONGEST, "{queriers}"),
                Some(round) => {
                    let rounds = wait.as_secs_f64() * queriers as f64 / sets.size as f64;
                    assert!((rounds - round).abs() < 0.01, "{queriers}: a round of {rounds} s");
                }
            }
        }
        assert_eq!(sets.queriers.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_querier_does_not_keep_a_slot_for_long() {
        let (sets, _) = shared_out(100, true);
        let querier = sets.querier();
        assert_eq!(querier.slot(LONGEST).await.unwrap().1, FIRST);
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(querier.slot(LONGEST).await.unwrap().1, Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_query_that_is_dropped_keeps_its_slot_as_long_as_the_agent_does() {
        let (sets, keys) = shared_out(FEWEST_CONNECTIONS, true);
        for (slots, kept) in [(sets, 0), (keys, 1)] {
            let (slot, _) = slots.querier().slot(LONGEST).await.unwrap();
            drop(slot);
            tokio::task::yield_now().await;
            assert_eq!(slots.free.available_permits(), slots.size - kept);
            tokio::time::sleep(FIRST * 2).await;
            assert_eq!(slots.free.available_permits(), slots.size);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_query_that_gets_no_slot_says_why() {
        let (sets, _) = shared_out(FEWEST_CONNECTIONS, true);
        let querier = sets.querier();
        let mut kept = Vec::new();
        for _ in 0..sets.size {
            kept.push(querier.slot(LONGEST).await.unwrap());
        }
        let error = querier.slot(LONGEST).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("all 10 slots"), "{error}");
    }
}
