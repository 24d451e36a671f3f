//! The task that keeps leases alive.

use std::collections::HashMap;
use std::sync::Arc;

use callboard_core::{Backoff, BackoffState, Error, ErrorKind, Result, later};
use etcd_client::{Client, LeaseKeepAliveResponse, LeaseKeepAliveStream, LeaseKeeper};
use futures_util::future::BoxFuture;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::lease::LeaseState;
use super::timing;
use crate::client::connection::Connection;
use crate::error::{from_client, is_passing};

pub(super) struct Task {
    connection: Arc<Connection>,
    new: UnboundedReceiver<LeaseState>,
    leases: HashMap<i64, LeaseState>,
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

/// The one stream on which all leases are kept alive.
enum Stream {
    /// There is none, and none is opened before this moment.
    Closed { not_before: Instant },
    /// It is being opened, for this lease.
    Opening { lease: i64, opening: BoxFuture<'static, Result<Pair>> },
    /// It is open, and its last answer came at this moment.
    Open { pair: Pair, last_answer: Instant },
}

/// The sending and the receiving half of the stream.
type Pair = Box<(LeaseKeeper, LeaseKeepAliveStream)>;

/// What happens to the task.
enum Event {
    New(Option<LeaseState>),
    Opened(Result<Pair>),
    Answered(Result<LeaseKeepAliveResponse>),
    Tried(i64, Result<Pair>),
    Due,
}

impl Task {
    pub(super) fn new(connection: Arc<Connection>, new: UnboundedReceiver<LeaseState>) -> Self {
        let (leases, stream) = (HashMap::new(), Stream::Closed { not_before: Instant::now() });
        let retry = BackoffState::new(Backoff::REGISTRY);
        Self { connection, new, leases, stream, trial: None, retry, error: None }
    }

    /// Runs until there is no lease left.
    pub(super) async fn run(mut self) {
        loop {
            match self.event().await {
                Event::New(Some(lease)) => drop(self.leases.insert(lease.id, lease)),
                Event::New(None) => return,
                Event::Opened(outcome) => self.opened(outcome),
                Event::Answered(Ok(answer)) => self.answered(&answer),
                Event::Answered(Err(error)) => self.broken(&error),
                Event::Tried(lease, outcome) => self.tried(lease, outcome),
                Event::Due => {}
            }
            self.remove_ended();
            self.close_if_silent();
            self.send_due().await;
        }
    }

    async fn event(&mut self) -> Event {
        let due = self.due();
        let stream = async {
            match &mut self.stream {
                Stream::Closed { .. } => std::future::pending().await,
                Stream::Opening { opening, .. } => Event::Opened(opening.await),
                Stream::Open { pair, .. } => Event::Answered(answer(&mut pair.1).await),
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

    /// When there is something to do, if there is no other event before.
    fn due(&self) -> Option<Instant> {
        let next = |lease: &LeaseState| match (&self.stream, lease.asked) {
            (_, None) if lease.refused.is_some() && self.trial.is_some() => lease.deadline,
            (_, None) if lease.refused.is_some() => lease.deadline.min(lease.due),
            (Stream::Opening { .. }, _) | (_, Some(_)) => lease.deadline,
            (Stream::Closed { not_before }, None) => lease.deadline.min(lease.due.max(*not_before)),
            (Stream::Open { .. }, None) => lease.deadline.min(lease.due),
        };
        self.leases.values().map(next).chain(self.silent_from()).min()
    }

    /// From when on an open stream counts as silent: it has carried no answer for a while, although one is awaited. A
    /// single answer may be late because there are many before it: a member that does not lead asks the leader for each
    /// in turn.
    fn silent_from(&self) -> Option<Instant> {
        let Stream::Open { last_answer, .. } = &self.stream else { return None };
        let asked =
            self.leases.values().filter(|lease| lease.refused.is_none()).filter_map(|lease| lease.asked).min()?;
        let shortest = self.leases.values().map(|lease| lease.ttl).min()?;
        Some(asked.max(*last_answer) + timing::silence(shortest))
    }

    /// Removes the leases that are not wanted any more, and those that were not renewed for their time to live. The
    /// latter may have ended, and a lease that may have ended is taken as lost.
    fn remove_ended(&mut self) {
        let now = Instant::now();
        self.leases.retain(|_, lease| {
            if lease.deadline <= now {
                lease.expired(self.error.as_ref());
            }
            lease.deadline > now && lease.is_wanted()
        });
    }

    fn close_if_silent(&mut self) {
        if self.silent_from().is_some_and(|from| from <= Instant::now()) {
            // The connection may carry nothing any more.
            self.connection.renew();
            self.broken(&Error::new(ErrorKind::Timeout, "etcd does not answer on the stream that keeps leases alive"));
        }
    }

    /// Sends the keep-alives that are due.
    async fn send_due(&mut self) {
        let now = Instant::now();
        let due = self.leases.values().filter(|lease| lease.asked.is_none() && lease.due <= now);
        let (refused, due): (Vec<_>, Vec<_>) = due.partition(|lease| lease.refused.is_some());
        let (refused, due) = (refused.first().map(|lease| lease.id), due.iter().map(|lease| lease.id));
        let due: Vec<i64> = due.collect();
        if let Some(lease) = refused.filter(|_| self.trial.is_none()) {
            self.trial = self.ask(lease, now).map(|asking| Trial { lease, asking });
        }
        for lease in due {
            match &mut self.stream {
                Stream::Open { pair, .. } => {
                    let Some(state) = self.leases.get_mut(&lease) else { continue };
                    state.asked = Some(now);
                    // One stream carries all leases: the id is that of the request, not of the stream.
                    pair.0.id = lease;
                    let sent = timeout_at(later(now, timing::interval(state.ttl)), pair.0.keep_alive()).await;
                    if !matches!(sent, Ok(Ok(()))) {
                        let why = "the stream that keeps leases alive is closed";
                        self.broken(&Error::new(ErrorKind::Unavailable, why));
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

    /// Begins to open a stream, whose first keep-alive is for this lease.
    fn ask(&mut self, lease: i64, now: Instant) -> Option<BoxFuture<'static, Result<Pair>>> {
        let state = self.leases.get_mut(&lease)?;
        state.asked = Some(now);
        let within = timing::attempt(state.ttl);
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
                self.stream = Stream::Open { pair, last_answer: Instant::now() };
                self.renewed(lease);
            }
            // This one has ended, or is refused; another may open the stream.
            Err(error) if error.kind() == ErrorKind::Lost => self.unknown(lease),
            Err(error) if error.kind() == ErrorKind::Denied => self.refuse(lease, error),
            Err(error) => self.broken(&error),
        }
    }

    /// The outcome of asking for one lease alone. If etcd takes it, it shares the stream again.
    fn tried(&mut self, lease: i64, outcome: Result<Pair>) {
        self.trial = None;
        match outcome {
            Ok(_) => self.renewed(lease),
            Err(error) if error.kind() == ErrorKind::Lost => self.unknown(lease),
            Err(error) => {
                tracing::debug!(backend = "etcd", lease, error = error.chain(), "etcd refuses to keep a lease alive");
                self.refuse(lease, error);
            }
        }
    }

    fn refuse(&mut self, lease: i64, error: Error) {
        if let Some(state) = self.leases.get_mut(&lease) {
            state.refuse(error);
        }
    }

    fn answered(&mut self, answer: &LeaseKeepAliveResponse) {
        if let Stream::Open { last_answer, .. } = &mut self.stream {
            *last_answer = Instant::now();
        }
        if answer.ttl() > 0 {
            self.renewed(answer.id());
        } else {
            self.unknown(answer.id());
        }
    }

    fn renewed(&mut self, lease: i64) {
        if let Some(state) = self.leases.get_mut(&lease) {
            state.renewed();
        }
    }

    fn unknown(&mut self, lease: i64) {
        if let Some(state) = self.leases.remove(&lease) {
            state.unknown();
        }
    }

    /// The stream is gone. Another is opened after a while; the leases last until their time to live has passed.
    fn broken(&mut self, error: &Error) {
        // However long etcd is away, the pause stays a part of the shortest time to live.
        let longest = self.leases.values().map(|lease| timing::longest_pause(lease.ttl)).min();
        let wait = self.retry.failed().min(longest.unwrap_or_default());
        tracing::debug!(backend = "etcd", error = error.chain(), ?wait, "the stream that keeps leases alive broke");
        if is_passing(error) {
            self.connection.suspect();
        }
        self.stream = Stream::Closed { not_before: Instant::now() + wait };
        self.error = Some(error.clone());
        for lease in self.leases.values_mut().filter(|lease| lease.refused.is_none()) {
            // One of those that were asked for is refused. Each is asked for alone, at once, until it is known which.
            let unanswered = lease.asked.take().is_some();
            lease.refused = (unanswered && error.kind() == ErrorKind::Denied).then(|| error.clone());
        }
    }
}

async fn answer(answers: &mut LeaseKeepAliveStream) -> Result<LeaseKeepAliveResponse> {
    let answer = answers.message().await.map_err(|error| from_client("keep leases alive", error, false))?;
    answer.ok_or_else(|| Error::new(ErrorKind::Unavailable, "etcd has ended the stream that keeps leases alive"))
}
