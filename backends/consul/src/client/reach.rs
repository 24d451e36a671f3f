//! Whether the agent can be reached, found out once for all requests of one client.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use callboard_core::{Backoff, BackoffState, Error, Result};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// How often the agent is asked whether it is still there, while it answers nothing else. An agent that is stopped keeps
/// its connections open, and a blocking query would wait for its whole time in vain.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// How many of the tasks that wait look whether it is time to ask. One would do, if it were certain to be polled.
const ASKERS: usize = 16;

/// What is known of the agent. The tasks that wait for it ask it themselves, in turn. So one backoff serves all of them,
/// and there is no task of its own that could end before them.
#[derive(Debug)]
pub(crate) struct Reach {
    /// Why the agent cannot be reached. None while it can be, as far as is known.
    lost: watch::Sender<Option<Error>>,
    next: Mutex<Next>,
    askers: Semaphore,
}

/// When the agent is asked next.
#[derive(Debug)]
struct Next {
    at: Instant,
    retry: BackoffState,
}

impl Reach {
    pub(crate) fn new() -> Self {
        let next = Next { at: Instant::now(), retry: BackoffState::new(Backoff::AGENT) };
        Self { lost: watch::Sender::new(None), next: Mutex::new(next), askers: Semaphore::new(ASKERS) }
    }

    /// Notes that the agent has answered, whatever the answer is.
    pub(crate) fn answered(&self) {
        self.next(|next| {
            next.at = Instant::now() + ASK_EVERY;
            next.retry.succeeded();
        });
        self.lost.send_if_modified(|lost| lost.take().is_some());
    }

    /// Notes that the agent cannot be reached.
    pub(crate) fn failed(&self, error: &Error) {
        self.next(|next| next.at = Instant::now() + next.retry.failed());
        // A task that waits for its return need not see each attempt.
        self.lost.send_if_modified(|lost| lost.replace(error.clone()).is_none());
    }

    /// Waits for an agent that is known to be out of reach, for this long at most.
    ///
    /// # Errors
    /// Why the last attempt to reach it failed.
    pub(crate) async fn there<F: Future<Output = Result<()>>>(
        &self,
        patience: Duration,
        ask: impl Fn() -> F,
    ) -> Result<()> {
        if self.lost.borrow().is_none() {
            return Ok(());
        }
        let mut lost = self.lost.subscribe();
        tokio::select! {
            biased;
            _ = lost.wait_for(Option::is_none) => return Ok(()),
            // First: a question that is dropped at once would keep all other tasks from asking for a while.
            () = sleep(patience) => {}
            () = self.take_part(ask) => {}
        }
        let lost = self.lost.borrow().clone();
        lost.map_or(Ok(()), Err)
    }

    /// Outages that begin from now on.
    pub(crate) fn outages(&self) -> Outages {
        Outages(self.lost.subscribe())
    }

    /// Waits until the agent cannot be reached any more, and returns why. An outage that had begun before is reported by
    /// the requests.
    ///
    /// Cancel-safe.
    pub(crate) async fn gone<F: Future<Output = Result<()>>>(
        &self,
        outages: &mut Outages,
        ask: impl Fn() -> F,
    ) -> Error {
        let asking = async {
            sleep(ASK_EVERY).await;
            self.take_part(ask).await;
        };
        tokio::select! {
            error = outages.next() => error,
            () = asking => std::future::pending().await,
        }
    }

    /// Asks whenever it is time to and no other task has. It never ends.
    async fn take_part<F: Future<Output = Result<()>>>(&self, ask: impl Fn() -> F) {
        // The semaphore is never closed, so there is a permit sooner or later.
        let _permit = self.askers.acquire().await;
        loop {
            sleep_until(self.next(|next| next.at)).await;
            // If this task is dropped while it asks, the others wait no longer than this.
            let mine = self.next(|next| {
                let due = next.at <= Instant::now();
                if due {
                    next.at = Instant::now() + ASK_EVERY;
                }
                due
            });
            if mine {
                match ask().await {
                    Ok(()) => self.answered(),
                    Err(error) => self.failed(&error),
                }
            }
        }
    }

    fn next<T>(&self, change: impl FnOnce(&mut Next) -> T) -> T {
        // Each change is complete in itself, so a poisoned lock can be used.
        change(&mut self.next.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The outages of the agent that one task has not seen yet.
#[derive(Debug)]
pub(crate) struct Outages(watch::Receiver<Option<Error>>);

impl Outages {
    async fn next(&mut self) -> Error {
        while self.0.changed().await.is_ok() {
            if let Some(error) = &*self.0.borrow_and_update() {
                return error.clone();
            }
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use callboard_core::ErrorKind;
    use futures_util::FutureExt;
    use futures_util::future::join_all;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(2);

    fn down() -> Error {
        Error::new(ErrorKind::Unavailable, "down")
    }

    #[tokio::test(start_paused = true)]
    async fn many_tasks_that_wait_for_an_agent_ask_it_as_often_as_one_would() {
        let (reach, asked) = (Reach::new(), AtomicUsize::new(0));
        reach.failed(&down());
        let ask = async || {
            asked.fetch_add(1, Ordering::Relaxed);
            Err(down())
        };
        let begun = Instant::now();
        for result in join_all((0..1_000).map(|_| reach.there(PATIENCE, ask))).await {
            assert_eq!(result.unwrap_err().to_string(), down().to_string());
        }
        assert_eq!(begun.elapsed(), PATIENCE);
        let asked = asked.load(Ordering::Relaxed);
        assert!((4..=15).contains(&asked), "asked {asked} times");
        let ask = async || Ok(());
        let begun = Instant::now();
        for result in join_all((0..1_000).map(|_| reach.there(PATIENCE, ask))).await {
            result.unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }

    /// As when a program has had no time to poll it.
    #[tokio::test(start_paused = true)]
    async fn a_task_whose_time_is_over_does_not_begin_to_ask() {
        let (reach, asked) = (Reach::new(), AtomicUsize::new(0));
        let ask = async || {
            asked.fetch_add(1, Ordering::Relaxed);
            std::future::pending().await
        };
        for _ in 0..20 {
            reach.failed(&down());
            let mut waits = std::pin::pin!(reach.there(PATIENCE, ask));
            assert!((&mut waits).now_or_never().is_none());
            tokio::time::advance(PATIENCE * 2).await;
            waits.await.unwrap_err();
        }
        assert_eq!(asked.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_stops_answering_is_gone_for_all_tasks_though_the_one_that_asks_is_dropped() {
        let (reach, asked) = (Reach::new(), AtomicUsize::new(0));
        let ask = async || {
            let time = if asked.fetch_add(1, Ordering::Relaxed) == 0 { 3_600 } else { 1 };
            sleep(Duration::from_secs(time)).await;
            Err(down())
        };
        let begun = Instant::now();
        let gone = async || reach.gone(&mut reach.outages(), ask).await;
        let first = tokio::time::timeout(Duration::from_millis(2_500), gone());
        let (first, rest) = tokio::join!(first, join_all((0..100).map(|_| gone())));
        assert!(first.is_err() && rest.len() == 100);
        assert!(begun.elapsed() <= Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
