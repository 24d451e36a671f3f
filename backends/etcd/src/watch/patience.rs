//! Which failures a watch outlasts before it ends with an error: a few, within a short time.

use std::time::Duration;

use callboard_core::{Backoff, BackoffState, Error, ErrorKind, Result};
use tokio::time::{Instant, sleep};

/// How many failures in a row a watch outlasts.
const FAILURES: u32 = 4;
/// How long after the first failure it outlasts another.
const LONGEST: Duration = Duration::from_secs(3);
/// After a watch has worked for so long, its earlier failures do not count.
const FORGIVEN_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Patience {
    retry: BackoffState,
    /// The first failure that counts.
    since: Option<Instant>,
}

impl Default for Patience {
    fn default() -> Self {
        Self { retry: BackoffState::immediate_first(Backoff::RESUME), since: None }
    }
}

impl Patience {
    /// Notes how long a watch worked before it failed.
    pub(super) fn worked_for(&mut self, time: Duration) {
        if time >= FORGIVEN_AFTER {
            *self = Self::default();
        }
    }

    /// Waits before the next attempt, or ends with the error.
    pub(super) async fn after(&mut self, error: Error) -> Result<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let lasting = matches!(error.kind(), ErrorKind::Denied | ErrorKind::Invalid | ErrorKind::Unsupported);
        if lasting || self.retry.failures() == FAILURES || since.elapsed() >= LONGEST {
            return Err(error);
        }
        let wait = self.retry.failed();
        tracing::debug!(backend = "etcd", error = error.chain(), ?wait, "the watch is resumed after an error");
        sleep(wait).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: ErrorKind) -> Error {
        Error::new(kind, "broken on purpose")
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_after_a_few_failures_and_after_a_short_time() {
        let mut patience = Patience::default();
        for _ in 0..FAILURES {
            patience.after(error(ErrorKind::Unavailable)).await.expect("not yet");
        }
        patience.after(error(ErrorKind::Unavailable)).await.expect_err("enough");
        patience.worked_for(Duration::from_secs(9));
        patience.after(error(ErrorKind::Unavailable)).await.expect_err("it has not worked for long");
        patience.worked_for(FORGIVEN_AFTER);
        patience.after(error(ErrorKind::Unavailable)).await.expect("forgiven");
        sleep(LONGEST).await;
        patience.after(error(ErrorKind::Timeout)).await.expect_err("too late");
        Patience::default().after(error(ErrorKind::Denied)).await.expect_err("time does not cure it");
    }
}
