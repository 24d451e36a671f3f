//! Noticing at once, and not at the next pass, that an entry has changed or that its agent is gone.

use std::time::Duration;

use callboard_core::{Backoff, BackoffState, ErrorKind};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::sleep;

use crate::agent::Agent;
use crate::turns::GUARDS;

/// What the leases of one client share. Each look takes a connection of its own, so only some entries are looked at in
/// this way; one is enough to notice that the agent is gone.
#[derive(Debug)]
pub(crate) struct Guards {
    places: Semaphore,
    /// Changes when the agent is found to be gone.
    alarm: watch::Sender<u64>,
}

impl Guards {
    pub(crate) fn new() -> Self {
        Self { places: Semaphore::new(GUARDS), alarm: watch::Sender::new(0) }
    }

    /// Wakes whoever keeps an entry when there may be something wrong with it. It never ends.
    pub(crate) async fn watch_over(&self, agent: &Agent, entry: &str, wake: &Notify) {
        let mut alarm = self.alarm.subscribe();
        let hear = async {
            while alarm.changed().await.is_ok() {
                wake.notify_one();
            }
        };
        tokio::join!(hear, self.look_at(agent, entry, wake));
    }

    /// Waits in the agent for the entry to change, again and again.
    async fn look_at(&self, agent: &Agent, entry: &str, wake: &Notify) {
        // They are never closed: there is a place sooner or later.
        let _place = self.places.acquire().await;
        let mut retry = BackoffState::new(quickly());
        let mut seen: Option<String> = None;
        loop {
            let failed = match agent.changed(entry, seen.as_deref()).await {
                Ok(now) => {
                    let gone = now.is_none();
                    if seen.is_some() && seen != now {
                        wake.notify_one();
                    }
                    seen = now;
                    gone
                }
                // It cannot be looked at in this way; the passes find out all the same.
                Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Denied) => return,
                Err(_) => {
                    // The first failure in a row tells everybody; then the passes find out when the agent is back.
                    if retry.failures() == 0 {
                        self.alarm.send_modify(|alarms| *alarms += 1);
                    }
                    true
                }
            };
            if failed {
                sleep(retry.failed()).await;
            } else {
                retry.succeeded();
            }
        }
    }
}

/// 100 ms to 500 ms: whatever an agent has lost by a restart is there again within a second of its return.
pub(crate) fn quickly() -> Backoff {
    let millis = Duration::from_millis;
    Backoff::new(millis(100), millis(500), 1.5, 0.2).unwrap_or(Backoff::REGISTRY)
}
