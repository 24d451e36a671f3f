//! Whether the agent can be reached, found out once for all who use one client.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use callboard_core::{BackoffState, Error, Result};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::guard::quickly;

/// While nothing is heard, the agent is asked so often whether it is still there. An agent that is stopped keeps its
/// connections open, and a query would wait for its whole time in vain.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// Of those who wait, so many look whether it is time to ask. One would do, if it were sure that somebody polls it.
const ASKERS: usize = 16;

/// What is known of the agent. Whoever waits takes part in asking, in turn, so that there is one ladder for all and no
/// task that could end before them.
#[derive(Debug)]
pub(crate) struct Reach {
    /// Why the agent cannot be reached. None as long as nobody has found it to be so.
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
        let next = Next { at: Instant::now(), retry: BackoffState::new(quickly()) };
        Self { lost: watch::Sender::new(None), next: Mutex::new(next), askers: Semaphore::new(ASKERS) }
    }

    /// Notes that the agent has answered, whatever it has said.
    pub(crate) fn heard(&self) {
        self.next(|next| {
            next.at = Instant::now() + ASK_EVERY;
            next.retry.succeeded();
        });
        self.lost.send_if_modified(|lost| lost.take().is_some());
    }

    /// Notes that the agent cannot be reached.
    pub(crate) fn failed(&self, error: &Error) {
        self.next(|next| next.at = Instant::now() + next.retry.failed());
        // Who waits for its return need not know each attempt.
        self.lost.send_if_modified(|lost| lost.replace(error.clone()).is_none());
    }

    /// Waits for an agent that is known to be out of reach, for so long at most.
    ///
    /// # Errors
    /// What stood in the way last.
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
            // Before it asks: a question that is dropped at once would keep all others from asking for a while.
            () = sleep(patience) => {}
            () = self.take_part(ask) => {}
        }
        let lost = self.lost.borrow().clone();
        lost.map_or(Ok(()), Err)
    }

    /// Looks out from now on.
    pub(crate) fn lookout(&self) -> Lookout {
        Lookout(self.lost.subscribe())
    }

    /// Waits until the agent cannot be reached any more, and says why. While it is known to be out of reach from the
    /// beginning, it is for the requests to say so.
    ///
    /// Cancel-safe.
    pub(crate) async fn gone<F: Future<Output = Result<()>>>(
        &self,
        lookout: &mut Lookout,
        ask: impl Fn() -> F,
    ) -> Error {
        let listen = async {
            sleep(ASK_EVERY).await;
            self.take_part(ask).await;
        };
        tokio::select! {
            error = lookout.gone() => error,
            () = listen => std::future::pending().await,
        }
    }

    /// Asks whenever it is time to and nobody else has. It never ends.
    async fn take_part<F: Future<Output = Result<()>>>(&self, ask: impl Fn() -> F) {
        // They are never closed: there is a place sooner or later.
        let _place = self.askers.acquire().await;
        loop {
            sleep_until(self.next(|next| next.at)).await;
            // One who is dropped while it asks costs the others no more than this time.
            let mine = self.next(|next| {
                let due = next.at <= Instant::now();
                if due {
                    next.at = Instant::now() + ASK_EVERY;
                }
                due
            });
            if mine {
                match ask().await {
                    Ok(()) => self.heard(),
                    Err(error) => self.failed(&error),
                }
            }
        }
    }

    fn next<T>(&self, change: impl FnOnce(&mut Next) -> T) -> T {
        // Nothing in there can be half done.
        change(&mut self.next.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What one who waits has seen of the agent.
#[derive(Debug)]
pub(crate) struct Lookout(watch::Receiver<Option<Error>>);

impl Lookout {
    async fn gone(&mut self) -> Error {
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
    async fn many_who_wait_for_an_agent_ask_it_as_often_as_one_would() {
        let (reach, asked) = (Reach::new(), AtomicUsize::new(0));
        reach.failed(&down());
        let ask = async || {
            asked.fetch_add(1, Ordering::Relaxed);
            Err(down())
        };
        let begun = Instant::now();
        for said in join_all((0..1_000).map(|_| reach.there(PATIENCE, ask))).await {
            assert_eq!(said.unwrap_err().to_string(), down().to_string());
        }
        assert_eq!(begun.elapsed(), PATIENCE);
        let asked = asked.load(Ordering::Relaxed);
        assert!((4..=15).contains(&asked), "asked {asked} times");
        let ask = async || Ok(());
        let begun = Instant::now();
        for said in join_all((0..1_000).map(|_| reach.there(PATIENCE, ask))).await {
            said.unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }

    /// As when a program has had no time to poll it.
    #[tokio::test(start_paused = true)]
    async fn who_has_no_patience_left_does_not_begin_to_ask() {
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
    async fn an_agent_that_falls_silent_is_gone_for_all_though_who_asks_is_dropped() {
        let (reach, asked) = (Reach::new(), AtomicUsize::new(0));
        let ask = async || {
            let time = if asked.fetch_add(1, Ordering::Relaxed) == 0 { 3_600 } else { 1 };
            sleep(Duration::from_secs(time)).await;
            Err(down())
        };
        let begun = Instant::now();
        let gone = async || reach.gone(&mut reach.lookout(), ask).await;
        let first = tokio::time::timeout(Duration::from_millis(2_500), gone());
        let (first, rest) = tokio::join!(first, join_all((0..100).map(|_| gone())));
        assert!(first.is_err() && rest.len() == 100);
        assert!(begun.elapsed() <= Duration::from_secs(5), "{:?}", begun.elapsed());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
    }
}
