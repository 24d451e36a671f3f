//! The task that keeps leases alive.

use std::collections::HashMap;
use std::sync::Arc;

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
    Closed {
        not_before: Instant,
    },
    /// It is being opened, for this lease.
    Opening {
        lease: i64,
        opening: BoxFuture<'static, Result<Pair>>,
    },
    Open(Pair),
}

/// What is told, and what is heard.
type Pair = Box<(LeaseKeeper, LeaseKeepAliveStream)>;

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
                Event::Said(Ok(said)) if said.ttl() > 0 => self.confirmed(said.id()),
                Event::Said(Ok(said)) => self.ended(said.id(), "etcd does not know the lease any more"),
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
                Stream::Open(pair) => Event::Said(said(&mut pair.1).await),
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
            (Stream::Opening { .. }, _) => kept.deadline,
            (_, Some(asked)) => kept.deadline.min(asked + kept.ttl / BEATS),
            (Stream::Closed { not_before }, None) => kept.deadline.min(kept.beat_at.max(*not_before)),
            (Stream::Open(_), None) => kept.deadline.min(kept.beat_at),
        };
        self.leases.values().map(next).min()
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
        if self.leases.values().any(|kept| kept.asked.is_some_and(|asked| asked + kept.ttl / BEATS <= now)) {
            // The connection is not sure to carry anything any more.
            self.connection.renew();
            self.broken(&Error::new(ErrorKind::Timeout, "etcd does not answer on the stream that keeps leases alive"));
        }
        let due: Vec<i64> =
            self.leases.values().filter(|k| k.asked.is_none() && k.beat_at <= now).map(|k| k.lease).collect();
        for lease in due {
            match &mut self.stream {
                Stream::Open(pair) => {
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
                self.stream = Stream::Open(pair);
                self.confirmed(lease);
            }
            // This one has ended; another may open the stream.
            Err(error) if error.kind() == ErrorKind::Lost => self.ended(lease, "etcd does not know the lease any more"),
            Err(error) => self.broken(&error),
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
        let wait = self.retry.failed();
        tracing::debug!(backend = "etcd", error = error.chain(), ?wait, "leases are not kept alive for now");
        self.stream = Stream::Closed { not_before: Instant::now() + wait };
        for kept in self.leases.values_mut() {
            kept.asked = None;
        }
    }
}

impl Kept {
    fn end(&self, why: &'static str) {
        self.ended.send_replace(Some(Error::new(ErrorKind::Lost, why)));
    }
}

async fn said(answers: &mut LeaseKeepAliveStream) -> Result<LeaseKeepAliveResponse> {
    let said = answers.message().await.map_err(|error| failure("keep leases alive", error))?;
    said.ok_or_else(|| Error::new(ErrorKind::Unavailable, "etcd has ended the stream that keeps leases alive"))
}
