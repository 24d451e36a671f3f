//! One endpoint's connections, through all their states.

use std::sync::Arc;

use callboard_core::{Address, Backoff, ConnectivityState, Endpoint, Error, ErrorKind, Instance, Retry};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use super::lines::Lines;
use crate::load::Watch;
use crate::shared::Defaults;
use crate::transport::{Connection, Connector, End, Event, Opening, Settings, open};

/// The second connection in a row that did not last as long as this counts as a failed attempt: a server that accepts
/// and hangs up is dialled with backoff, like one that refuses.
const SETTLED: Duration = Duration::from_secs(1);

/// One endpoint and its connections: the first, whose state is the endpoint's, and further ones while that is full.
///
/// ```text
///            dial            SETTINGS
///   Idle ───────────▶ Connecting ───────▶ Ready
///    ▲                   │                  │ GOAWAY, loss: dialled again at once,
///    │ backoff over      │ failure          │ or after a backoff if it was short-lived
///    └─────────────── Failing ◀─────────────┘
/// ```
#[derive(Debug)]
pub(super) struct Subchannel {
    endpoint: Endpoint,
    phase: Phase,
    retry: Retry,
    /// Set from a failure until the next success: gRPC's sticky TRANSIENT_FAILURE.
    last_error: Option<Error>,
    /// The last connection was short-lived.
    hasty: bool,
    /// How often the server has asked for fewer PINGs.
    calm: u32,
    lines: Lines,
    /// Of what it reports out of band.
    watch: Option<Watch>,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Connecting { id: u64, since: Instant, _opening: Opening },
    Ready { id: u64, since: Instant, connection: Arc<Connection> },
    Failing { until: Instant },
}

impl Subchannel {
    pub(super) fn new(instance: Arc<Instance>, backoff: Backoff) -> Self {
        Self {
            endpoint: Endpoint::new(instance),
            phase: Phase::Idle,
            retry: Retry::new(backoff),
            last_error: None,
            hasty: false,
            calm: 0,
            lines: Lines::default(),
            watch: None,
        }
    }

    /// The same address, of which the registry now says something else. A new incarnation is a server that has just
    /// started: there is no reason to wait for it any longer.
    pub(super) fn change_to(&mut self, instance: &Arc<Instance>) {
        if Arc::ptr_eq(instance, self.endpoint.instance()) {
            return;
        }
        let restarted = instance.incarnation != self.endpoint.instance().incarnation;
        self.endpoint = self.endpoint.with_instance(Arc::clone(instance));
        if restarted {
            self.retry.succeeded();
            if matches!(self.phase, Phase::Failing { .. }) {
                self.phase = Phase::Idle;
                self.note_state();
            }
        }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn address(&self) -> &Address {
        &self.endpoint.instance().address
    }

    pub(super) fn last_error(&self) -> Option<&Error> {
        self.last_error.as_ref()
    }

    /// The connections that calls can be sent on, the first one first. There is one if it is ready.
    pub(super) fn connections(&self) -> impl Iterator<Item = &Arc<Connection>> {
        let first = match &self.phase {
            Phase::Ready { connection, .. } => Some(connection),
            _ => None,
        };
        first.into_iter().chain(self.lines.connections())
    }

    pub(super) fn state(&self) -> ConnectivityState {
        match self.phase {
            Phase::Idle => ConnectivityState::Idle,
            Phase::Connecting { .. } => ConnectivityState::Connecting,
            Phase::Ready { .. } => ConnectivityState::Ready,
            Phase::Failing { .. } => ConnectivityState::TransientFailure,
        }
    }

    pub(super) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
    }

    /// Whether it would take more calls if it had one more connection, and may have so many in all.
    pub(super) fn is_crowded(&self, most: usize, now: Instant) -> bool {
        self.is_ready()
            && self.lines.has_room(most.saturating_sub(1), now)
            && !self.connections().any(|connection| connection.has_place())
    }

    pub(super) fn is_connecting(&self) -> bool {
        self.connecting_since().is_some()
    }

    /// When the attempt that is under way was begun.
    pub(super) fn connecting_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Connecting { since, .. } => Some(since),
            _ => None,
        }
    }

    /// Whether its last attempt failed and no later one has succeeded, even while another one runs.
    pub(super) fn is_failing(&self) -> bool {
        self.last_error.is_some() && !self.is_ready()
    }

    /// When a failed endpoint may be dialled again.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Failing { until } => Some(until),
            _ => None,
        }
    }

    /// When it may be tried to give it one more connection, after one has failed.
    pub(super) fn widen_at(&self) -> Option<Instant> {
        self.lines.retry_at()
    }

    /// Notes that it may be tried, if that is so.
    pub(super) fn end_pause(&mut self, now: Instant) {
        self.lines.end_pause(now);
    }

    /// Whether it is to be dialled, if it should be connected: at once when idle, after the backoff when failing.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        match self.phase {
            Phase::Idle => true,
            Phase::Failing { until } => until <= now,
            Phase::Connecting { .. } | Phase::Ready { .. } => false,
        }
    }

    /// Whether the events of this connection are for it.
    pub(super) fn owns(&self, attempt: u64) -> bool {
        match self.phase {
            Phase::Connecting { id, .. } | Phase::Ready { id, .. } if id == attempt => true,
            _ => self.lines.owns(attempt),
        }
    }

    /// Opens its connection or, when it has one, a further one.
    pub(super) fn dial(
        &mut self,
        id: u64,
        connector: Arc<dyn Connector>,
        mut settings: Settings,
        events: mpsc::UnboundedSender<(u64, Event)>,
    ) {
        (0..self.calm).for_each(|_| settings.keepalive.calmer());
        let opening = open(id, self.address().clone(), connector, settings, events);
        if self.is_ready() {
            self.lines.add(id, opening);
            return;
        }
        self.phase = Phase::Connecting { id, since: Instant::now(), _opening: opening };
        self.note_state();
    }

    /// Closes what there is: an attempt is given up, a connection finishes its calls.
    pub(super) fn rest(&mut self) {
        self.phase = Phase::Idle;
        self.lines.close_all();
        self.note_state();
    }

    /// Asks it to report its load so often on the connection that it has now, or no longer.
    pub(super) fn ask_for_reports(&mut self, every: Option<Duration>, defaults: &Defaults) {
        let wanted = every.zip(self.connections().next());
        let asked = |(every, connection)| self.watch.as_ref().is_some_and(|watch| watch.is(connection, every));
        if wanted.is_some_and(asked) {
            return;
        }
        let start = |(every, connection)| Watch::start(connection, self.endpoint.clone(), every, defaults);
        self.watch = wanted.map(start);
    }

    /// Takes an event of a connection that it owns.
    pub(super) fn take_event(&mut self, attempt: u64, event: Event) {
        if let Event::Closing(end) | Event::Closed(end) = &event
            && end.calm
        {
            self.calm = (self.calm + 1).min(10);
        }
        if self.lines.owns(attempt) {
            self.lines.take_event(attempt, event);
            self.stand_in();
            return self.note_state();
        }
        let (id, address) = (&self.endpoint.instance().id, self.address());
        match event {
            Event::Failed(error) => {
                tracing::debug!(instance = id, %address, error = error.chain(), "connection attempt failed");
                self.fail(error);
            }
            Event::Ready(connection) => {
                tracing::debug!(instance = id, %address, "connected");
                self.phase = Phase::Ready { id: attempt, since: Instant::now(), connection };
                self.last_error = None;
            }
            Event::Closing(end) | Event::Closed(end) => {
                tracing::debug!(instance = id, %address, why = end.why, "connection lost");
                self.lose(end);
            }
        }
        self.note_state();
    }

    fn fail(&mut self, error: Error) {
        // gRPC counts the wait from the start of the attempt.
        let begun = match self.phase {
            Phase::Connecting { since, .. } | Phase::Ready { since, .. } => since,
            Phase::Idle | Phase::Failing { .. } => Instant::now(),
        };
        self.phase = Phase::Failing { until: begun + self.retry.failed() };
        self.last_error = Some(error);
    }

    /// Lets a further connection take the place of the first one, if that is not there.
    fn stand_in(&mut self) {
        if !self.is_ready()
            && let Some((id, connection)) = self.lines.promote()
        {
            self.phase = Phase::Ready { id, since: Instant::now(), connection };
            self.last_error = None;
        }
    }

    fn lose(&mut self, end: End) {
        let lasted = match self.phase {
            Phase::Ready { since, .. } => since.elapsed(),
            _ => Duration::ZERO,
        };
        let hasty = lasted < SETTLED;
        if let Some((id, connection)) = self.lines.promote() {
            self.phase = Phase::Ready { id, since: Instant::now(), connection };
        } else if hasty && self.hasty {
            self.fail(Error::new(ErrorKind::Unavailable, end.why));
        } else {
            self.phase = Phase::Idle;
        }
        if !hasty {
            self.retry.succeeded();
        }
        self.hasty = hasty;
    }

    fn note_state(&self) {
        self.endpoint.set_state(self.state());
    }
}
