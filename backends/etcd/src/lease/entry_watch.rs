//! Watching the own entry, to notice when it is lost.

use std::sync::Arc;

use callboard_core::{Backoff, BackoffState, Error, ErrorKind, Result};
use tokio::time::sleep;

use super::claim::Claim;
use crate::client::{Client, Position};
use crate::record::DELETE;

/// Waits until the entry is not this claim's any more, and says why. It was the claim's at `since`.
///
/// While etcd cannot be reached it tries again. Whether the lease has ended meanwhile is for the task to say that keeps
/// it alive, and the caller stops waiting then.
pub(super) async fn until_lost(client: Arc<Client>, claim: Claim, since: Position) -> Error {
    let mut retry = BackoffState::new(Backoff::REGISTRY);
    let mut since = Some(since);
    loop {
        match watch(&client, &claim, since.take(), &mut retry).await {
            Ok(lost) => return lost,
            Err(error) => {
                let (wait, key, why) = (retry.failed(), &claim.key, error.chain());
                if error.kind() == ErrorKind::Denied && retry.failures() == 1 {
                    tracing::warn!(
                        backend = "etcd",
                        key,
                        error = why,
                        "the entry may not be read, so its loss may go unnoticed"
                    );
                }
                tracing::debug!(backend = "etcd", key, error = why, ?wait, "the entry cannot be watched at the moment");
                sleep(wait).await;
            }
        }
    }
}

/// Why the entry was lost, or why that cannot be known at the moment.
async fn watch(client: &Client, claim: &Claim, since: Option<Position>, retry: &mut BackoffState) -> Result<Error> {
    let since = match since {
        Some(since) => since,
        None => {
            let (there, now) = client.read(&claim.key).await?;
            if let Err(lost) = claim.check(there.as_ref()) {
                return Ok(lost);
            }
            now
        }
    };
    let mut events = client.events(&claim.key, None, since).await?;
    loop {
        for event in events.next().await? {
            let there = event.kv.filter(|_| event.r#type != DELETE);
            if let Err(lost) = claim.check(there.as_ref()) {
                return Ok(lost);
            }
        }
        retry.succeeded();
    }
}
