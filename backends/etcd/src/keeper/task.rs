//! The task that keeps leases alive.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Backoff, Error, ErrorKind, Result, Retry};
use etcd_client::{LeaseKeepAliveResponse, LeaseKeepAliveStream, LeaseKeeper};
use futures_util::future::BoxFuture;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{BEATS, Kept};
use crate::connection::Connection;
use crate::failure::failure;

pub(super) struct Task {
    connection: Arc<Connection>,
    new: UnboundedReceiver<Kept>,
    leases: HashMap<i64, Kept>,
    stream: Stream,
    retry: Retry,
}

/// The one stream on which etcd hears of all the leases.
enum Stream {
    /// There is none, and none is opened before this moment.
    Closed { not_before: Instant },
    /// It is being opened, for this lease.
    Opening { lease: i64, opening: BoxFuture<'static, Result<Pair>> },
    /// It is open, and was heard last at this moment.
    Open { pair: Pair, heard: Instant },
}

/// What is told, and what is heard.
type Pair = Box<(LeaseKeeper, LeaseKeepAliveStream)>;

/// How long nothing may be heard on the stream, at the longest, after something was asked. There is time for several
/// attempts at other members then.
const SILENCE: Duration = Duration::from_secs(3);

/// What happens to the task.
enum Event {
    New(Option<Kept>),
    Opened(Result<Pair>),
    Said(Result<LeaseKeepAliveResponse>),
    Due,
}

impl Task {
    pub(super) fn new(connection: Arc<Connection>, new: UnboundedReceiver<Kept>) -> Self {
        let (leases, stream) = (HashMap::new(), Stream::Closed { not_before: Instant::now() });
        Self { connection, new, leases, stream, retry: Retry::new(Backoff::REGISTRY) }
    }

    /// Goes on until there is no lease left.
    pub(super) async fn run(mut self) {
        loop {
            match self.event().await {
                Event::New(Some(kept)) => drop(self.leases.insert(kept.lease, kept)),
                Event::New(None) => return,
                Event::Opened(outcome) => self.opened(outcome),
                Event::Said(Ok(said)) => self.said(&said),
                Event::Said(Err(error)) => self.broken(&error),
                Event::Due => {}
            }
            self.bury();
            self.beat().await;
        }
    }

    async fn event(&mut self) -> Event {
        let due = self.due();
        let stream = async {
            match &mut self.stream {
                Stream::Closed { .. } => std::future::pending().await,
                Stream::Opening { opening, .. } => Event::Opened(opening.await),
                Stream::Open { pair, .. } => Event::Said(answer(&mut pair.1).await),
            }
        };
        tokio::select! {
            new = self.new.recv() => Event::New(new),
            event = stream => event,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Event::Due,
        }
    }

    /// When there is something to do, if nothing is heard until then.
    fn due(&self) -> Option<Instant> {
        let next = |kept: &Kept| match (&self.stream, kept.asked) {
            (Stream::Opening { .. }, _) | (_, Some(_)) => kept.deadline,
            (Stream::Closed { not_before }, None) => kept.deadline.min(kept.beat_at.max(*not_before)),
            (Stream::Open { .. }, None) => kept.deadline.min(kept.beat_at),
        };
        self.leases.values().map(next).chain(self.silent_from()).min()
    }

    /// From when on an open stream counts as silent: nothing at all has been heard on it for a while, although there is
    /// something to be answered. One answer may be late because there are many before it: a member that does not lead
    /// asks the leader for each in turn.
    fn silent_from(&self) -> Option<Instant> {
        let Stream::Open { heard, .. } = &self.stream else { return None };
        let asked = self.leases.values().filter_map(|kept| kept.asked).min()?;
        let shortest = self.leases.values().map(|kept| kept.ttl).min()?;
        Some(asked.max(*heard) + SILENCE.min(shortest / BEATS))
    }

    /// Lets go of the leases that nobody wants any more, and of those that etcd has not heard of for their time to
    /// live: they may have ended, and what is not certain to be there is taken as lost.
    fn bury(&mut self) {
        let now = Instant::now();
        self.leases.retain(|_, kept| {
            if kept.deadline <= now {
                kept.end("etcd could not be told for a whole time to live that the lease is wanted");
            }
            kept.deadline > now && !kept.ended.is_closed()
        });
    }

    /// Tells etcd of each lease for which it is time.
    async fn beat(&mut self) {
        let now = Instant::now();
        if self.silent_from().is_some_and(|from| from <= now) {
            // The connection is not sure to carry anything any more.
            self.connection.renew();
            self.broken(&Error::new(ErrorKind::Timeout, "etcd does not answer on the stream that keeps leases alive"));
        }
        let due: Vec<i64> =
            self.leases.values().filter(|k| k.asked.is_none() && k.beat_at <= now).map(|k| k.lease).collect();
        for lease in due {
            match &mut self.stream {
                Stream::Open { pair, .. } => {
                    let Some(kept) = self.leases.get_mut(&lease) else { continue };
                    kept.asked = Some(now);
                    // One stream carries all leases: the id is that of the request, not of the stream.
                    pair.0.id = lease;
                    let sent = timeout_at(now + kept.ttl / BEATS, pair.0.keep_alive()).await;
                    if !matches!(sent, Ok(Ok(()))) {
                        self.broken(&Error::new(
                            ErrorKind::Unavailable,
                            "the stream that keeps leases alive is closed",
                        ));
                    }
                }
                Stream::Closed { not_before } if *not_before <= now => self.open(lease, now),
                Stream::Closed { .. } | Stream::Opening { .. } => return,
            }
        }
    }

    /// Begins to open the stream, which tells etcd of this lease too.
    fn open(&mut self, lease: i64, now: Instant) {
        if let Some(kept) = self.leases.get_mut(&lease) {
            kept.asked = Some(now);
        }
        let connection = Arc::clone(&self.connection);
        let opening = Box::pin(async move {
            let open = |client: etcd_client::Client| async move { client.lease_client().keep_alive(lease).await };
            connection.attempt("keep the lease alive", open).await.map(Box::new)
        });
        self.stream = Stream::Opening { lease, opening };
    }

    fn opened(&mut self, outcome: Result<Pair>) {
        let closed = Stream::Closed { not_before: Instant::now() };
        let Stream::Opening { lease, .. } = std::mem::replace(&mut self.stream, closed) else { return };
        match outcome {
            Ok(pair) => {
                self.retry.succeeded();
                self.stream = Stream::Open { pair, heard: Instant::now() };
                self.confirmed(lease);
            }
            // This one has ended; another may open the stream.
            Err(error) if error.kind() == ErrorKind::Lost => self.ended(lease, UNKNOWN),
            Err(error) => self.broken(&error),
        }
    }

    fn said(&mut self, said: &LeaseKeepAliveResponse) {
        if let Stream::Open { heard, .. } = &mut self.stream {
            *heard = Instant::now();
        }
        if said.ttl() > 0 {
            self.confirmed(said.id());
        } else {
            self.ended(said.id(), UNKNOWN);
        }
    }

    fn confirmed(&mut self, lease: i64) {
        let Some(kept) = self.leases.get_mut(&lease) else { return };
        // An answer to what was asked on an earlier stream is none.
        if let Some(asked) = kept.asked.take() {
            kept.deadline = asked + kept.ttl;
            kept.beat_at = asked + kept.ttl / BEATS;
        }
    }

    fn ended(&mut self, lease: i64, why: &'static str) {
        if let Some(kept) = self.leases.remove(&lease) {
            kept.end(why);
        }
    }

    /// The stream is gone. Another is opened after a while; the leases go on until their time to live has passed.
    fn broken(&mut self, error: &Error) {
        // However often it has failed, there are several attempts within a time to live.
        let longest = self.leases.values().map(|kept| kept.ttl / (2 * BEATS)).min();
        let wait = self.retry.failed().min(longest.unwrap_or_default());
        tracing::debug!(backend = "etcd", error = error.chain(), ?wait, "leases are not kept alive for now");
        self.stream = Stream::Closed { not_before: Instant::now() + wait };
        for kept in self.leases.values_mut() {
            kept.asked = None;
        }
    }
}

const UNKNOWN: &str = "etcd does not know the lease any more";

impl Kept {
    fn end(&self, why: &'static str) {
        self.ended.send_replace(Some(Error::new(ErrorKind::Lost, why)));
    }
}

async fn answer(answers: &mut LeaseKeepAliveStream) -> Result<LeaseKeepAliveResponse> {
    let said = answers.message().await.map_err(|error| failure("keep leases alive", error, false))?;
    said.ok_or_else(|| Error::new(ErrorKind::Unavailable, "etcd has ended the stream that keeps leases alive"))
}
