//! Watching over one's own entry.

use std::sync::Arc;

use callboard_core::{Backoff, BackoffState, Error, ErrorKind, Result};
use tokio::time::sleep;

use crate::board::DELETE;
use crate::connection::Connection;
use crate::entry::Claim;
use crate::feed::{Feed, Moment};
use crate::list::read;

/// Waits until the entry is not this claim's any more, and says why. It was the claim's at `since`.
///
/// While etcd cannot be heard it goes on trying: whether the lease has ended meanwhile is the keeper's to say, and
/// ends this wait.
pub(crate) async fn guard(connection: Arc<Connection>, claim: Claim, since: Moment) -> Error {
    let mut retry = BackoffState::new(Backoff::REGISTRY);
    let mut since = Some(since);
    loop {
        match watch_over(&connection, &claim, since.take(), &mut retry).await {
            Ok(lost) => return lost,
            Err(error) => {
                let wait = retry.failed();
                if error.kind() == ErrorKind::Denied && retry.failures() == 1 {
                    tracing::warn!(
                        backend = "etcd",
                        key = claim.key,
                        error = error.chain(),
                        "whether the entry stays cannot be seen"
                    );
                }
                tracing::debug!(
                    backend = "etcd",
                    key = claim.key,
                    error = error.chain(),
                    ?wait,
                    "the entry is not watched for now"
                );
                sleep(wait).await;
            }
        }
    }
}

/// Why the entry was lost, or why that cannot be known for now.
async fn watch_over(
    connection: &Arc<Connection>,
    claim: &Claim,
    since: Option<Moment>,
    retry: &mut BackoffState,
) -> Result<Error> {
    let since = match since {
        Some(since) => since,
        None => {
            let (there, now) = read(connection, &claim.key).await?;
            if let Err(lost) = claim.check(there.as_ref()) {
                return Ok(lost);
            }
            now
        }
    };
    let mut feed = Feed::open(connection, &claim.key, None, since).await?;
    loop {
        for event in feed.next().await? {
            let there = event.kv.filter(|_| event.r#type != DELETE);
            if let Err(lost) = claim.check(there.as_ref()) {
                return Ok(lost);
            }
        }
        retry.succeeded();
    }
}
