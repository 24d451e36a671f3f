//! Noticing at once, and not at the next pass, that an entry has changed or that its agent is gone.

use callboard_core::{Backoff, BackoffState, ErrorKind};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::sleep;

use crate::client::{Agent, ENTRY_WATCHES};

/// The watches that the leases of one client have on their entries. Each takes a connection of its own, so only some
/// entries are watched. One is enough to notice that the agent is gone.
#[derive(Debug)]
pub(super) struct EntryWatches {
    permits: Semaphore,
    /// Changes when the agent is found to be gone.
    outages: watch::Sender<u64>,
}

impl EntryWatches {
    pub(super) fn new() -> Self {
        Self { permits: Semaphore::new(ENTRY_WATCHES), outages: watch::Sender::new(0) }
    }

    /// Notifies `wake` when the entry may have changed or the agent may be gone. It never ends.
    pub(super) async fn run(&self, agent: &Agent, entry: &str, wake: &Notify) {
        let mut outages = self.outages.subscribe();
        let on_outage = async {
            while outages.changed().await.is_ok() {
                wake.notify_one();
            }
        };
        tokio::join!(on_outage, self.on_change(agent, entry, wake));
    }

    /// Has the agent wait for the entry to change, again and again.
    async fn on_change(&self, agent: &Agent, entry: &str, wake: &Notify) {
        // The semaphore is never closed, so there is a permit sooner or later.
        let _permit = self.permits.acquire().await;
        let mut retry = BackoffState::new(Backoff::AGENT);
        let mut known: Option<String> = None;
        loop {
            let failed = match agent.changed(entry, known.as_deref()).await {
                Ok(now) => {
                    let gone = now.is_none();
                    if known.is_some() && known != now {
                        wake.notify_one();
                    }
                    known = now;
                    gone
                }
                // The entry cannot be watched in this way. The passes find out all the same.
                Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Denied) => return,
                Err(_) => {
                    // The first failure in a row wakes all leases. Their passes find out when the agent is back.
                    if retry.failures() == 0 {
                        self.outages.send_modify(|count| *count += 1);
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
