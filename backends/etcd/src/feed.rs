//! One watch in etcd: what happens to some keys after a revision, in order and without a gap.

use std::fmt;
use std::sync::Arc;

use callboard_core::{Error, ErrorKind, Result};
use etcd_client::WatchOptions;
use etcd_client::proto::{PbEvent, PbWatchResponse};
use futures_util::FutureExt;
use tokio::time::Instant;

use crate::connection::Connection;
use crate::feeds::Answers;

/// How large an answer may be: enough for a thousand instances of 64 KiB.
pub(crate) const LARGEST_ANSWER: usize = 64 << 20;

/// Which state of etcd something was true for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) cluster: u64,
    pub(crate) revision: i64,
}

/// A watch that is open. Dropping it ends it in etcd too.
pub(crate) struct Feed {
    answers: Answers,
    opened: Instant,
    /// Up to where everything has been heard.
    heard: Moment,
    /// Why there is no more, if that is known already.
    broken: Option<Error>,
}

impl Feed {
    /// Opens a watch on a key, or on a range of keys, for all that happens after this moment.
    ///
    /// # Errors
    /// Also if etcd's state is of another cluster, or has not come to that moment: a watch that waits for what may
    /// never happen would be silent for ever.
    pub(crate) async fn open(
        connection: &Arc<Connection>,
        key: &str,
        end: Option<String>,
        after: Moment,
    ) -> Result<Self> {
        let plain = WatchOptions::new().with_start_revision(after.revision + 1).with_progress_notify();
        let options = end.map_or(plain.clone(), |end| plain.with_range(end));
        let mut answers = connection.here().feeds.begin(connection, key, options);
        check(&*answers.first().await?, after)?;
        Ok(Self { answers, opened: Instant::now(), heard: after, broken: None })
    }

    /// What has happened next, which may be nothing.
    ///
    /// Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Vec<PbEvent>> {
        let said = self.answers.next().await?;
        advance(&mut self.heard, &said)?;
        Ok(said.events)
    }

    /// The same, with what has come since, until there are so many. An error comes after what was heard before it.
    ///
    /// Cancel-safe.
    pub(crate) async fn next_events(&mut self, most: usize) -> Result<Vec<PbEvent>> {
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

    pub(crate) fn heard(&self) -> Moment {
        self.heard
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("heard", &self.heard).finish_non_exhaustive()
    }
}

/// Whether a watch was opened as it was asked for.
fn check(created: &PbWatchResponse, after: Moment) -> Result<()> {
    refused(created)?;
    let header = created.header.unwrap_or_default();
    let why = if !created.created {
        "etcd has not answered that the watch is open"
    } else if header.cluster_id != after.cluster {
        "another etcd cluster answers"
    } else if header.revision < after.revision {
        "this member is behind, or etcd has lost its data"
    } else {
        return Ok(());
    };
    Err(Error::new(ErrorKind::Unavailable, format!("cannot watch: {why}")))
}

/// Notes up to where everything has been heard.
fn advance(heard: &mut Moment, said: &PbWatchResponse) -> Result<()> {
    refused(said)?;
    let latest = said.events.iter().filter_map(|event| event.kv.as_ref()).map(|kv| kv.mod_revision).max();
    // Without events it tells how far etcd has come, with nothing to say up to there. The answer that the watch is open
    // tells that too, but before it has said what was before.
    let progress = said.header.as_ref().filter(|_| !said.created && said.events.is_empty()).map(|h| h.revision);
    heard.revision = heard.revision.max(latest.or(progress).unwrap_or_default());
    Ok(())
}

/// An answer that ends the watch, as an error.
fn refused(said: &PbWatchResponse) -> Result<()> {
    let (reason, compacted) = (&said.cancel_reason, said.compact_revision);
    if !said.canceled && compacted == 0 {
        return Ok(());
    }
    let kind = if reason.contains("permission denied") { ErrorKind::Denied } else { ErrorKind::Unavailable };
    let why = match (compacted, reason.as_str()) {
        (1.., _) => format!("what happened before revision {compacted} has been compacted"),
        (_, "") => "etcd has ended the watch".to_owned(),
        (_, reason) => format!("etcd has ended the watch: {reason}"),
    };
    Err(Error::new(kind, format!("cannot watch: {why}")))
}

#[cfg(test)]
mod tests {
    use etcd_client::proto::{PbKeyValue, PbResponseHeader};

    use super::*;

    const AFTER: Moment = Moment { cluster: 7, revision: 100 };

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
    fn how_far_it_has_heard_is_told_by_events_and_by_progress_but_not_by_the_first_answer() {
        let mut heard = AFTER;
        advance(&mut heard, &created(7, 500)).expect("no refusal");
        assert_eq!(heard.revision, 100, "what happened from 101 to 500 is yet to be said");
        let kv = |mod_revision| Some(PbKeyValue { mod_revision, ..PbKeyValue::default() });
        let events = vec![PbEvent { kv: kv(103), ..PbEvent::default() }, PbEvent { kv: kv(104), ..PbEvent::default() }];
        advance(&mut heard, &PbWatchResponse { header: header(7, 500), events, ..PbWatchResponse::default() })
            .expect("events");
        assert_eq!(heard.revision, 104);
        advance(&mut heard, &PbWatchResponse { header: header(7, 600), ..PbWatchResponse::default() })
            .expect("progress");
        assert_eq!(heard.revision, 600);
        advance(&mut heard, &canceled("", 700)).expect_err("compacted");
    }
}
