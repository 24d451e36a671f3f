//! The task that keeps leases alive.

use std::collections::HashMap;
use std::sync::Arc;

use callboard_core::{Backoff, BackoffState, Error, ErrorKind, Result, later};
use etcd_client::{Client, LeaseKeepAliveResponse, LeaseKeepAliveStream, LeaseKeeper};
use futures_util::future::BoxFuture;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Kept, timing};
use crate::connection::Connection;
use crate::failure::{failure, is_passing};

pub(super) struct Task {
    connection: Arc<Connection>,
    new: UnboundedReceiver<Kept>,
    leases: HashMap<i64, Kept>,
    stream: Stream,
    /// The one lease that is asked for alone at the moment.
    trial: Option<Trial>,
    retry: BackoffState,
    /// Why the stream broke last.
    error: Option<Error>,
}

struct Trial {
    lease: i64,
    asking: BoxFuture<'static, Result<Pair>>,
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

/// What happens to the task.
enum Event {
    New(Option<Kept>),
    Opened(Result<Pair>),
    Said(Result<LeaseKeepAliveResponse>),
    Tried(i64, Result<Pair>),
    Due,
}

impl Task {
    pub(super) fn new(connection: Arc<Connection>, new: UnboundedReceiver<Kept>) -> Self {
        let (leases, stream) = (HashMap::new(), Stream::Closed { not_before: Instant::now() });
        let retry = BackoffState::new(Backoff::REGISTRY);
        Self { connection, new, leases, stream, trial: None, retry, error: None }
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
                Event::Tried(lease, outcome) => self.tried(lease, outcome),
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
        let trial = async {
            match &mut self.trial {
                Some(Trial { lease, asking }) => Event::Tried(*lease, asking.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            new = self.new.recv() => Event::New(new),
            event = stream => event,
            event = trial => event,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Event::Due,
        }
    }

    /// When there is something to do, if nothing is heard until then.
    fn due(&self) -> Option<Instant> {
        let next = |kept: &Kept| match (&self.stream, kept.asked) {
            (_, None) if kept.refused.is_some() && self.trial.is_some() => kept.deadline,
            (_, None) if kept.refused.is_some() => kept.deadline.min(kept.beat_at),
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
        let asked = self.leases.values().filter(|kept| kept.refused.is_none()).filter_map(|kept| kept.asked).min()?;
        let shortest = self.leases.values().map(|kept| kept.ttl).min()?;
        Some(asked.max(*heard) + timing::silence(shortest))
    }

    /// Lets go of the leases that nobody wants any more, and of those that etcd has not heard of for their time to
    /// live: they may have ended, and what is not certain to be there is taken as lost.
    fn bury(&mut self) {
        let now = Instant::now();
        self.leases.retain(|_, kept| {
            if kept.deadline <= now {
                let why = Error::new(ErrorKind::Lost, UNTOLD);
                let cause = kept.refused.as_ref().or(self.error.as_ref()).cloned();
                kept.end(cause.into_iter().fold(why, Error::with_source));
            }
            kept.deadline > now && !kept.ended.is_closed()
        });
    }

    /// Tells etcd of each lease for which it is time.
    async fn beat(&mut self) {
        let now = Instant::now();
        if self.silent_from().is_some_and(|from| from <= now) {
            // The connection is not sure to carry anything any more.
            self.connection.here().renew();
            self.broken(&Error::new(ErrorKind::Timeout, "etcd does not answer on the stream that keeps leases alive"));
        }
        let due = self.leases.values().filter(|kept| kept.asked.is_none() && kept.beat_at <= now);
        let (refused, due): (Vec<_>, Vec<_>) = due.partition(|kept| kept.refused.is_some());
        let (refused, due) = (refused.first().map(|kept| kept.lease), due.iter().map(|kept| kept.lease));
        let due: Vec<i64> = due.collect();
        if let Some(lease) = refused.filter(|_| self.trial.is_none()) {
            self.trial = self.ask(lease, now).map(|asking| Trial { lease, asking });
        }
        for lease in due {
            match &mut self.stream {
                Stream::Open { pair, .. } => {
                    let Some(kept) = self.leases.get_mut(&lease) else { continue };
                    kept.asked = Some(now);
                    // One stream carries all leases: the id is that of the request, not of the stream.
                    pair.0.id = lease;
                    let sent = timeout_at(later(now, timing::beat(kept.ttl)), pair.0.keep_alive()).await;
                    if !matches!(sent, Ok(Ok(()))) {
                        self.broken(&Error::new(
                            ErrorKind::Unavailable,
                            "the stream that keeps leases alive is closed",
                        ));
                    }
                }
                Stream::Closed { not_before } if *not_before <= now => {
                    let Some(opening) = self.ask(lease, now) else { continue };
                    self.stream = Stream::Opening { lease, opening };
                }
                Stream::Closed { .. } | Stream::Opening { .. } => return,
            }
        }
    }

    /// Begins to open a stream, which tells etcd of this lease too.
    fn ask(&mut self, lease: i64, now: Instant) -> Option<BoxFuture<'static, Result<Pair>>> {
        let kept = self.leases.get_mut(&lease)?;
        kept.asked = Some(now);
        let within = timing::attempt(kept.ttl);
        let connection = Arc::clone(&self.connection);
        Some(Box::pin(async move {
            let open = |client: &Client| {
                let mut leases = client.lease_client();
                async move { leases.keep_alive(lease).await }
            };
            connection.attempt_within(within, "keep the lease alive", open).await.map(Box::new)
        }))
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
            // This one has ended, or is refused; another may open the stream.
            Err(error) if error.kind() == ErrorKind::Lost => self.ended(lease, UNKNOWN),
            Err(error) if error.kind() == ErrorKind::Denied => self.refuse(lease, error),
            Err(error) => self.broken(&error),
        }
    }

    /// What has come of asking for one lease alone. If etcd takes it, it is one of all others again.
    fn tried(&mut self, lease: i64, outcome: Result<Pair>) {
        self.trial = None;
        match outcome {
            Ok(_) => self.confirmed(lease),
            Err(error) if error.kind() == ErrorKind::Lost => self.ended(lease, UNKNOWN),
            Err(error) => {
                tracing::debug!(backend = "etcd", lease, error = error.chain(), "a lease is not kept alive for now");
                self.refuse(lease, error);
            }
        }
    }

    fn refuse(&mut self, lease: i64, error: Error) {
        let Some(kept) = self.leases.get_mut(&lease) else { return };
        (kept.asked, kept.refused) = (None, Some(error));
        kept.beat_at = later(Instant::now(), timing::longest_pause(kept.ttl));
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
            kept.refused = None;
            kept.deadline = later(asked, kept.ttl);
            kept.beat_at = later(asked, timing::beat(kept.ttl));
        }
    }

    fn ended(&mut self, lease: i64, why: &'static str) {
        if let Some(kept) = self.leases.remove(&lease) {
            kept.end(Error::new(ErrorKind::Lost, why));
        }
    }

    /// The stream is gone. Another is opened after a while; the leases go on until their time to live has passed.
    fn broken(&mut self, error: &Error) {
        let longest = self.leases.values().map(|kept| timing::longest_pause(kept.ttl)).min();
        let wait = self.retry.failed().min(longest.unwrap_or_default());
        tracing::debug!(backend = "etcd", error = error.chain(), ?wait, "leases are not kept alive for now");
        if is_passing(error) {
            self.connection.here().doubt();
        }
        self.stream = Stream::Closed { not_before: Instant::now() + wait };
        self.error = Some(error.clone());
        for kept in self.leases.values_mut().filter(|kept| kept.refused.is_none()) {
            // One of those that were asked for is refused. Each is asked for alone, at once, until it is known which.
            let unanswered = kept.asked.take().is_some();
            kept.refused = (unanswered && error.kind() == ErrorKind::Denied).then(|| error.clone());
        }
    }
}

const UNTOLD: &str = "etcd could not be told for a whole time to live that the lease is wanted";
const UNKNOWN: &str = "etcd does not know the lease any more";

impl Kept {
    fn end(&self, why: Error) {
        self.ended.send_replace(Some(why));
    }
}

async fn answer(answers: &mut LeaseKeepAliveStream) -> Result<LeaseKeepAliveResponse> {
    let said = answers.message().await.map_err(|error| failure("keep leases alive", error, false))?;
    said.ok_or_else(|| Error::new(ErrorKind::Unavailable, "etcd has ended the stream that keeps leases alive"))
}
