//! One watch in etcd: the events of some keys after a revision, in order and without a gap.

use std::fmt;

use callboard_core::{Error, ErrorKind, Result};
use etcd_client::proto::{PbEvent, PbWatchResponse};
use futures_util::FutureExt;
use tokio::time::Instant;

use super::position::Position;
use super::watches::Answers;

/// A watch that is open. Dropping it ends it in etcd too.
pub(crate) struct Events {
    answers: Answers,
    opened: Instant,
    /// Up to where all events have been received.
    position: Position,
    /// Why there are no more, if that is known already.
    broken: Option<Error>,
}

impl Events {
    /// Waits until a watch is open that was asked for all events after this position.
    ///
    /// # Errors
    /// Also if etcd's state is of another cluster, or has not come to that position: such a watch would wait for events
    /// that may never come.
    pub(super) async fn open(mut answers: Answers, after: Position) -> Result<Self> {
        check(&*answers.first().await?, after)?;
        Ok(Self { answers, opened: Instant::now(), position: after, broken: None })
    }

    /// The next events, which may be none.
    ///
    /// Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Vec<PbEvent>> {
        let answer = self.answers.next().await?;
        advance(&mut self.position, &answer)?;
        Ok(answer.events)
    }

    /// The same, with the events that have come since, until there are so many. An error comes after the events that
    /// came before it.
    ///
    /// Cancel-safe.
    pub(crate) async fn next_batch(&mut self, most: usize) -> Result<Vec<PbEvent>> {
        if let Some(broken) = self.broken.take() {
            return Err(broken);
        }
        let mut events = self.next().await?;
        while events.len() < most {
            match self.next().now_or_never() {
                Some(Ok(more)) => events.extend(more),
                Some(Err(broken)) => {
                    self.broken = Some(broken);
                    break;
                }
                None => break,
            }
        }
        Ok(events)
    }

    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    /// Up to where all events have been received.
    pub(crate) fn position(&self) -> Position {
        self.position
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("position", &self.position).finish_non_exhaustive()
    }
}

/// Whether a watch was opened as it was asked for.
fn check(created: &PbWatchResponse, after: Position) -> Result<()> {
    ended(created)?;
    let now = Position::of(&created.header.unwrap_or_default());
    let why = if !created.created {
        "etcd has not answered that the watch is open"
    } else if now.cluster != after.cluster {
        "another etcd cluster answers"
    } else if now.revision < after.revision {
        "this member is behind, or etcd has lost its data"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Unavailable, format!("cannot watch: {why}")))
}

/// Notes up to where all events have been received.
fn advance(position: &mut Position, answer: &PbWatchResponse) -> Result<()> {
    ended(answer)?;
    let latest = answer.events.iter().filter_map(|event| event.kv.as_ref()).map(|kv| kv.mod_revision).max();
    // An answer without events says how far etcd has come, with no event up to there. The answer that the watch is open
    // says so too, but comes before the events of the revisions before it.
    let progress = answer.header.as_ref().filter(|_| !answer.created && answer.events.is_empty()).map(|h| h.revision);
    position.revision = position.revision.max(latest.or(progress).unwrap_or_default());
    Ok(())
}

/// The error of an answer that ends the watch.
fn ended(answer: &PbWatchResponse) -> Result<()> {
    let (reason, compacted) = (&answer.cancel_reason, answer.compact_revision);
    if !answer.canceled && compacted == 0 {
        return Ok(());
    }
    let kind = if reason.contains("permission denied") { ErrorKind::Denied } else { ErrorKind::Unavailable };
    let why = match (compacted, reason.as_str()) {
        (1.., _) => format!("the history before revision {compacted} has been compacted"),
        (_, "") => "etcd has ended the watch".to_owned(),
        (_, reason) => format!("etcd has ended the watch: {reason}"),
    };
    Err(Error::new(kind, format!("cannot watch: {why}")))
}

#[cfg(test)]
mod tests {
    use etcd_client::proto::{PbKeyValue, PbResponseHeader};

    use super::*;

    const AFTER: Position = Position { cluster: 7, revision: 100 };

    fn header(cluster_id: u64, revision: i64) -> Option<PbResponseHeader> {
        Some(PbResponseHeader { cluster_id, revision, ..PbResponseHeader::default() })
    }

    fn created(cluster: u64, revision: i64) -> PbWatchResponse {
        PbWatchResponse { header: header(cluster, revision), created: true, ..PbWatchResponse::default() }
    }

    fn canceled(reason: &str, compact_revision: i64) -> PbWatchResponse {
        let canceled = true;
        PbWatchResponse { canceled, compact_revision, cancel_reason: reason.into(), ..created(7, 100) }
    }

    #[test]
    fn a_watch_in_the_future_of_etcd_or_in_another_cluster_is_an_error() {
        assert!(check(&created(7, 100), AFTER).is_ok() && check(&created(7, 900), AFTER).is_ok());
        for (answer, why) in [
            (created(7, 99), "has lost its data"),
            (created(8, 100), "another etcd cluster"),
            (PbWatchResponse::default(), "not answered that the watch is open"),
            (canceled("", 120), "before revision 120 has been compacted"),
            (
                canceled("rpc error: code = Unauthenticated desc = etcdserver: invalid auth token", 0),
                "invalid auth token",
            ),
            (canceled("", 0), "etcd has ended the watch"),
        ] {
            let error = check(&answer, AFTER).expect_err(why);
            assert_eq!(error.kind(), ErrorKind::Unavailable);
            assert!(error.to_string().contains(why), "{error}");
        }
        let denied = check(&canceled("etcdserver: permission denied", 0), AFTER).expect_err("denied");
        assert_eq!(denied.kind(), ErrorKind::Denied);
    }

    #[test]
    fn events_and_progress_advance_the_position_and_the_first_answer_does_not() {
        let mut position = AFTER;
        advance(&mut position, &created(7, 500)).expect("it does not end the watch");
        assert_eq!(position.revision, 100, "the events from 101 to 500 are yet to come");
        let kv = |mod_revision| Some(PbKeyValue { mod_revision, ..PbKeyValue::default() });
        let events = vec![PbEvent { kv: kv(103), ..PbEvent::default() }, PbEvent { kv: kv(104), ..PbEvent::default() }];
        advance(&mut position, &PbWatchResponse { header: header(7, 500), events, ..PbWatchResponse::default() })
            .expect("events");
        assert_eq!(position.revision, 104);
        advance(&mut position, &PbWatchResponse { header: header(7, 600), ..PbWatchResponse::default() })
            .expect("progress");
        assert_eq!(position.revision, 600);
        advance(&mut position, &canceled("", 700)).expect_err("compacted");
    }
}
