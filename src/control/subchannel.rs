//! One endpoint's connections and their states.

mod counted;
mod events;
mod extra_connections;
mod pace;
mod phase;
mod removal;
mod status;

use std::sync::Arc;

use callboard_core::{Address, Backoff, ConnectivityState, Endpoint, Error, ErrorKind, Instance};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};

use self::extra_connections::ExtraConnections;
use self::pace::Pace;
use self::phase::Phase;
pub(in crate::control) use self::status::{Status, WhyNotConnected};
use super::oob_reports::OobReports;
use crate::grpc::Defaults;
use crate::transport::{Connection, ConnectionKey, Connector, End, Event, Settings, open};

/// One endpoint and its connections: the first, whose state is the endpoint's, and extra ones while that is full.
///
/// ```text
///            dial            SETTINGS
///   Idle ───────────▶ Connecting ───────▶ Ready
///    ▲                   │                  │ GOAWAY, loss: Idle, and dialled when
///    │ backoff over      │ failure          │ the pace says; Failing only if it
///    └─────────────── Failing ◀─────────────┘ takes calls and does not answer them
/// ```
#[derive(Debug)]
pub(in crate::control) struct Subchannel {
    /// Identifies the subchannel in its attempts, wherever it moves in the list.
    number: u64,
    endpoint: Endpoint,
    phase: Phase,
    pace: Pace,
    /// Whether it is to be connected.
    wanted: bool,
    /// Whether a pick has asked for it. Then it is connected until the connection is lost.
    on_demand: bool,
    /// Whether it was connected, and has not failed since.
    proven: bool,
    /// See [`Due`](super::counts::Due).
    lot: u32,
    /// Set from a failure until the next success: gRPC's sticky TRANSIENT_FAILURE.
    last_error: Option<Error>,
    /// How often the server has asked for fewer PINGs.
    calm: u32,
    extra: ExtraConnections,
    /// Its stream of out-of-band load reports.
    oob_reports: Option<OobReports>,
    status: Arc<Status>,
}

impl Subchannel {
    pub(in crate::control) fn new(number: u64, instance: Arc<Instance>, backoff: Backoff) -> Self {
        Self {
            number,
            endpoint: Endpoint::new(instance),
            phase: Phase::idle(),
            pace: Pace::new(backoff),
            wanted: false,
            on_demand: false,
            proven: false,
            lot: fastrand::u32(..),
            last_error: None,
            calm: 0,
            extra: ExtraConnections::default(),
            oob_reports: None,
            status: Arc::default(),
        }
    }

    /// Takes over a changed registration of the same address. A new incarnation is a server that has just started, so
    /// the backoff ends, unless such changes come too often.
    pub(in crate::control) fn change_to(&mut self, instance: &Arc<Instance>) {
        if Arc::ptr_eq(instance, self.endpoint.instance()) {
            return;
        }
        let restarted = instance.incarnation() != self.endpoint.instance().incarnation();
        self.endpoint = self.endpoint.with_instance(Arc::clone(instance));
        if restarted && self.pace.may_restart() {
            self.reset_backoff();
            // It was the former process that asked for fewer PINGs.
            self.calm = 0;
        }
    }

    pub(in crate::control) fn number(&self) -> u64 {
        self.number
    }

    /// Sets whether it is to be connected.
    pub(in crate::control) fn want(&mut self, wanted: bool) {
        self.on_demand = false;
        let anew = wanted && !self.wanted;
        self.wanted = wanted;
        if let Phase::Idle { since } = &mut self.phase
            && anew
        {
            // It waits to be dialled from now on.
            *since = Instant::now();
        }
    }

    /// Sets whether the balancer lists it as one to connect. If not, it is closed, unless a pick has asked for it.
    pub(in crate::control) fn want_only(&mut self, listed: bool) {
        match listed {
            true => self.want(true),
            false if self.on_demand => {}
            false => self.rest(),
        }
    }

    /// Notes that a pick has asked for it: it is connected once.
    pub(in crate::control) fn demand(&mut self) {
        if !self.wanted {
            self.want(true);
            self.on_demand = true;
        }
    }

    pub(in crate::control) fn status(&self) -> &Arc<Status> {
        &self.status
    }

    pub(in crate::control) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(in crate::control) fn address(&self) -> &Address {
        self.endpoint.instance().address()
    }

    pub(in crate::control) fn last_error(&self) -> Option<&Error> {
        self.last_error.as_ref()
    }

    /// The connections that calls can be sent on, the first one first. There is at least one if it is ready.
    pub(in crate::control) fn connections(&self) -> impl Iterator<Item = &Arc<Connection>> {
        let first = self.phase.connection();
        first.into_iter().chain(self.extra.connections())
    }

    pub(in crate::control) fn state(&self) -> ConnectivityState {
        self.phase.state()
    }

    pub(in crate::control) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
    }

    /// Whether calls wait for a stream of it, and it may have one more connection. `most` bounds their number.
    pub(in crate::control) fn is_crowded(&self, most: usize, now: Instant) -> bool {
        self.is_ready()
            && self.extra.has_room(most.saturating_sub(1), now)
            && self.connections().any(|connection| connection.is_waited_for())
            && !self.connections().any(|connection| connection.has_place())
    }

    pub(in crate::control) fn is_connecting(&self) -> bool {
        self.connecting_since().is_some()
    }

    /// When the running attempt was started.
    pub(in crate::control) fn connecting_since(&self) -> Option<Instant> {
        match self.phase {
            Phase::Connecting { since, .. } => Some(since),
            _ => None,
        }
    }

    /// Whether its last attempt failed and no later one has succeeded. Another one may be running.
    pub(in crate::control) fn is_failing(&self) -> bool {
        self.last_error.is_some() && !self.is_ready()
    }

    /// Notes that calls wait for an endpoint: shortens the pause of an idle one.
    pub(in crate::control) fn hurry(&mut self) {
        if let Phase::Resting { rest, .. } = &mut self.phase {
            rest.hurry();
        }
    }

    /// Checks its extra connections; see [`ExtraConnections::tend`].
    pub(in crate::control) fn tend_extra_connections(&mut self, now: Instant, idle: Duration) -> bool {
        self.extra.tend(now, idle)
    }

    /// Resets the backoff: a waiting endpoint is dialled now, and the next wait is the first one again.
    pub(in crate::control) fn reset_backoff(&mut self) {
        self.pace.reset();
        self.extra.forget_failure();
        if matches!(self.phase, Phase::Failing { .. } | Phase::Resting { .. }) {
            self.phase = Phase::idle();
            self.note_state();
        }
    }

    /// Whether it may be dialled: at once when idle, after the backoff when failing.
    pub(in crate::control) fn is_due(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Idle { .. }) || self.phase.wake_at().is_some_and(|at| at <= now)
    }

    /// Whether the events of this connection are for it.
    fn owns(&self, attempt: u64) -> bool {
        match self.phase {
            Phase::Connecting { id, .. } | Phase::Ready { id, .. } if id == attempt => true,
            _ => self.extra.owns(attempt),
        }
    }

    /// Opens its connection or, if it has one, an extra one.
    pub(in crate::control) fn dial(
        &mut self,
        id: u64,
        connector: Arc<dyn Connector>,
        mut settings: Settings,
        events: mpsc::UnboundedSender<(ConnectionKey, Event)>,
    ) {
        (0..self.calm).for_each(|_| settings.keepalive.calmer());
        let opening = open(ConnectionKey { by: self.number, id }, self.address().clone(), connector, settings, events);
        if self.is_ready() {
            self.extra.add(id, opening);
            return;
        }
        let since = Instant::now();
        let due = self.phase.due_at().unwrap_or(since);
        self.phase = Phase::Connecting { id, since, due, _opening: opening };
        self.note_state();
    }

    /// Cancels its attempts and closes its connections, which finish their calls.
    pub(in crate::control) fn rest(&mut self) {
        self.phase = Phase::idle();
        self.wanted = false;
        self.extra.close_all();
        self.note_state();
    }

    /// Requests load reports at this interval on the current connection, or stops requesting them.
    pub(in crate::control) fn ask_for_reports(&mut self, every: Option<Duration>, defaults: &Defaults) {
        let wanted = every.zip(self.connections().next());
        let asked =
            |(every, connection)| self.oob_reports.as_ref().is_some_and(|reports| reports.is(connection, every));
        if wanted.is_some_and(asked) {
            return;
        }
        let start = |(every, connection)| OobReports::start(connection, self.endpoint.clone(), every, defaults);
        self.oob_reports = wanted.map(start);
    }

    fn note_state(&self) {
        self.endpoint.set_state(self.state());
        self.status.set(self.why_not_connected());
    }
}

fn lost(end: End) -> Error {
    Error::new(ErrorKind::Unavailable, end.why)
}
