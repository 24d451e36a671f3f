//! The client's side: a list, and what happens after it, as a stream of complete sets.

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Breaks, Error, ErrorKind, Result, Snapshot, Snapshots, later};
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep, sleep_until};

use crate::board::Board;
use crate::connection::{Connection, ours};
use crate::feed::{Feed, Moment};
use crate::list::{list, remembers};

/// Watches what is to be on this board.
pub(crate) fn watch(connection: Arc<Connection>, board: Board, relist: Duration) -> Snapshots {
    let watch =
        Watch { connection, board, relist, known: None, relist_at: Instant::now(), patience: Patience::default() };
    stream::try_unfold(watch, |mut watch| async move {
        let said = watch.next().await;
        let service = watch.board.service().clone();
        said.map(|snapshot| Some((snapshot, watch))).map_err(|error| ours(error).for_service(&service))
    })
    .boxed()
}

struct Watch {
    connection: Arc<Connection>,
    board: Board,
    relist: Duration,
    known: Option<Known>,
    /// When everything is listed again, whether or not there seems to be a reason.
    relist_at: Instant,
    patience: Patience,
}

/// The board is right as of some moment.
enum Known {
    /// Listed then.
    Listed(Moment, Instant),
    /// Up to here, and the watch goes on.
    Heard(Box<Feed>),
    /// Up to here; then the watch broke.
    Until(Moment),
}

/// How long etcd is sure not to have been wiped, and filled up to where it was, since a list. Whoever wants the next set
/// may ask for it much later.
const JUST_NOW: Duration = Duration::from_secs(1);

/// With how many events there is a set of them, although more have come.
const MOST_EVENTS: usize = 1_000;

impl Watch {
    /// The next set.
    async fn next(&mut self) -> Result<Snapshot> {
        loop {
            let outcome = match self.known.take() {
                None => self.list().await.map(|()| true),
                Some(Known::Listed(moment, at)) if at.elapsed() < JUST_NOW => self.open(moment).await.map(|()| false),
                Some(Known::Listed(moment, _) | Known::Until(moment)) => self.resume(moment).await.map(|()| false),
                Some(Known::Heard(feed)) => self.hear(feed).await,
            };
            match outcome {
                Ok(true) => return Ok(self.board.snapshot().await),
                Ok(false) => {}
                Err(error) => self.patience.after(error).await?,
            }
        }
    }

    async fn list(&mut self) -> Result<()> {
        let moment = list(&self.connection, &mut self.board).await?;
        let (least, varied) = (self.relist / 10 * 9, (self.relist / 5).mul_f64(fastrand::f64()));
        self.relist_at = later(later(Instant::now(), least), varied);
        self.known = Some(Known::Listed(moment, Instant::now()));
        Ok(())
    }

    async fn open(&mut self, after: Moment) -> Result<()> {
        // If this fails, what is known is still right as of then.
        self.known = Some(Known::Until(after));
        let directory = self.board.directory();
        let feed = Feed::open(&self.connection, directory.start(), Some(directory.end()), after).await?;
        self.known = Some(Known::Heard(Box::new(feed)));
        Ok(())
    }

    /// Goes on where the last watch broke; if etcd does not know of that any more, everything is to be listed.
    async fn resume(&mut self, after: Moment) -> Result<()> {
        self.known = Some(Known::Until(after));
        if remembers(&self.connection, &self.board, after).await? {
            return self.open(after).await;
        }
        self.known = None;
        Ok(())
    }

    /// Hears what happens. Says whether the set may have changed.
    async fn hear(&mut self, mut feed: Box<Feed>) -> Result<bool> {
        let said = tokio::select! {
            said = feed.next_events(MOST_EVENTS) => said,
            () = sleep_until(self.relist_at) => return Ok(false),
        };
        match said {
            Ok(events) => {
                let (mut changed, mut breaks) = (false, Breaks::new());
                for event in events {
                    changed |= self.board.apply(event);
                    breaks.take().await;
                }
                self.known = Some(Known::Heard(feed));
                Ok(changed)
            }
            Err(error) => {
                self.patience.worked_for(feed.opened().elapsed());
                self.known = Some(Known::Until(feed.heard()));
                Err(error)
            }
        }
    }
}

/// How much a watch puts up with before it ends with an error: a few failures, within a short time.
#[derive(Debug, Default)]
struct Patience {
    failures: usize,
    since: Option<Instant>,
}

/// The waits after the failures that it puts up with.
const WAITS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(100), Duration::from_millis(300), Duration::from_secs(1)];
/// How long after the first failure it puts up with another.
const LONGEST: Duration = Duration::from_secs(3);
/// A watch that has worked for so long is forgiven what was before.
const FORGIVEN_AFTER: Duration = Duration::from_secs(10);

impl Patience {
    fn worked_for(&mut self, time: Duration) {
        if time >= FORGIVEN_AFTER {
            *self = Self::default();
        }
    }

    /// Waits before the next attempt, or ends with the error.
    async fn after(&mut self, error: Error) -> Result<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let lasting = matches!(error.kind(), ErrorKind::Denied | ErrorKind::Invalid | ErrorKind::Unsupported);
        let wait = WAITS.get(self.failures).filter(|_| !lasting && since.elapsed() < LONGEST);
        let Some(wait) = wait else { return Err(error) };
        tracing::debug!(backend = "etcd", error = error.chain(), ?wait, "the watch goes on after an error");
        self.failures += 1;
        sleep(wait.mul_f64(0.5 + fastrand::f64())).await;
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
        for _ in 0..WAITS.len() {
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
