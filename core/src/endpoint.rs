//! An instance as a channel sees it.

mod attributes;
mod calls;
mod reported;

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use self::attributes::Attributes;
use self::calls::Calls;
use self::reported::Reported;
use crate::{Instance, Load};

/// The state of a connection, of an endpoint, or of a whole channel: gRPC's five.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConnectivityState {
    /// Not connected, and no attempt is made.
    Idle,
    /// Being connected, or waiting for the first set of instances.
    Connecting,
    /// Calls can be sent: the peer's HTTP/2 SETTINGS have arrived.
    Ready,
    /// The last attempt failed; another one follows after a backoff.
    TransientFailure,
    /// Closed by its owner.
    Shutdown,
}

impl ConnectivityState {
    const ALL: [Self; 5] = [Self::Idle, Self::Connecting, Self::Ready, Self::TransientFailure, Self::Shutdown];
}

impl fmt::Display for ConnectivityState {
    /// gRPC's spelling: `TRANSIENT_FAILURE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Idle => "IDLE",
            Self::Connecting => "CONNECTING",
            Self::Ready => "READY",
            Self::TransientFailure => "TRANSIENT_FAILURE",
            Self::Shutdown => "SHUTDOWN",
        })
    }
}

/// An instance as a channel sees it: its registration, plus its connection's state and live figures.
///
/// Clones share the state and the figures, which change while they are read. The registration does not change: when a
/// weight or metadata changes in the registry, the channel makes a new endpoint [with the same
/// figures](Self::with_instance).
#[derive(Clone)]
pub struct Endpoint(Arc<Inner>);

struct Inner {
    instance: Arc<Instance>,
    live: Arc<Live>,
}

#[derive(Default)]
struct Live {
    /// Index into `ConnectivityState::ALL`.
    state: AtomicU8,
    /// Set while it is ready. Changes only with the state, which is rare.
    ready_since: Mutex<Option<Instant>>,
    calls: Calls,
    /// Nanoseconds; 0 until the first call has ended.
    latency: AtomicU64,
    reported_by_calls: Reported,
    reported_out_of_band: Reported,
    attributes: Attributes,
}

impl Endpoint {
    /// Makes an endpoint in state `IDLE` without calls.
    pub fn new(instance: impl Into<Arc<Instance>>) -> Self {
        Self(Arc::new(Inner { instance: instance.into(), live: Arc::default() }))
    }

    /// The same endpoint with a changed registration.
    #[must_use]
    pub fn with_instance(&self, instance: impl Into<Arc<Instance>>) -> Self {
        Self(Arc::new(Inner { instance: instance.into(), live: Arc::clone(&self.0.live) }))
    }

    /// Its registration.
    pub fn instance(&self) -> &Arc<Instance> {
        &self.0.instance
    }

    /// Shorthand for the instance's weight.
    pub fn weight(&self) -> u32 {
        self.0.instance.weight()
    }

    /// The state of its connections: `READY` if one of them is.
    pub fn state(&self) -> ConnectivityState {
        ConnectivityState::ALL[usize::from(self.0.live.state.load(Ordering::Relaxed))]
    }

    /// How many calls were sent to it and have not ended.
    pub fn in_flight(&self) -> u64 {
        self.0.live.calls.in_flight()
    }

    /// How many calls this channel has ever sent to it.
    pub fn calls(&self) -> u64 {
        self.0.live.calls.all()
    }

    /// The latency of calls to it, from sending to the last byte: a moving average in which each new call weighs an
    /// eighth. None until the first call has ended.
    pub fn latency(&self) -> Option<Duration> {
        match self.0.live.latency.load(Ordering::Relaxed) {
            0 => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    /// Since when it has been `READY`. None if it is not.
    pub fn ready_since(&self) -> Option<Instant> {
        *self.0.live.ready_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its last load report, with the response of a call or out of band. None if there was none. A report stays until
    /// the next one, so check its age.
    pub fn load(&self) -> Option<Load> {
        let (by_calls, out_of_band) = (self.0.live.reported_by_calls.get(), self.out_of_band_load());
        by_calls.into_iter().chain(out_of_band).max_by_key(|load| load.at)
    }

    /// Its last out-of-band load report. It reports only if the balancer [asks for
    /// it](crate::Balancer::oob_report_interval).
    pub fn out_of_band_load(&self) -> Option<Load> {
        self.0.live.reported_out_of_band.get()
    }

    /// State that a balancer keeps on this endpoint from one picker to the next: one value for each type, shared by
    /// clones, at first the default. With a private type, no other code can change it.
    pub fn attribute<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        self.0.live.attributes.get()
    }

    /// Sets the state, and notes when it became `READY`. Called by the channel, and by tests of pickers.
    pub fn set_state(&self, state: ConnectivityState) {
        let index = ConnectivityState::ALL.iter().position(|s| *s == state).expect("ALL lists every state");
        self.0.live.state.store(index as u8, Ordering::Relaxed);
        let mut since = self.0.live.ready_since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = (state == ConnectivityState::Ready).then(|| since.unwrap_or_else(Instant::now));
    }

    /// Stores the load report of a response. Called by the channel, at most once per call, and by tests of pickers.
    pub fn set_load(&self, load: Load) {
        self.0.live.reported_by_calls.set(load);
    }

    /// Stores an out-of-band load report. Called by the channel, and by tests of pickers.
    pub fn set_out_of_band_load(&self, load: Load) {
        self.0.live.reported_out_of_band.set(load);
    }

    /// Notes that a call is sent. Called by the channel, once per call, and by tests of pickers.
    pub fn call_started(&self) {
        self.0.live.calls.start();
    }

    /// Notes that a call has ended, in whatever way. Called once for each [`call_started`](Self::call_started). The
    /// latency is None for a call that says nothing about the server's speed, such as a cancelled one.
    pub fn call_ended(&self, latency: Option<Duration>) {
        self.0.live.calls.end();
        let Some(latency) = latency else { return };
        let new = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1);
        let old = self.0.live.latency.load(Ordering::Relaxed);
        // If two calls end at the same moment, one of the two samples may be lost, which an average tolerates.
        let average = if old == 0 { new } else { old - old / 8 + new / 8 };
        self.0.live.latency.store(average.max(1), Ordering::Relaxed);
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.0.instance.id();
        f.debug_struct("Endpoint")
            .field("id", &id)
            .field("address", &format_args!("{}", self.0.instance.address()))
            .field("weight", &self.0.instance.weight())
            .field("state", &self.state())
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint::new(Instance::new("a", "127.0.0.1:1".parse().expect("an address")).expect("an id"))
    }

    #[test]
    fn figures_outlive_a_change_of_weight() {
        let before = endpoint();
        before.call_started();
        before.set_state(ConnectivityState::Ready);
        let after = before.with_instance(before.instance().as_ref().clone().with_weight(7));
        assert_eq!((after.in_flight(), after.calls(), after.state()), (1, 1, ConnectivityState::Ready));
        after.call_ended(None);
        assert_eq!((before.in_flight(), before.weight(), after.weight()), (0, 1, 7));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_ready_since_it_became_so() {
        let endpoint = endpoint();
        assert_eq!(endpoint.ready_since(), None);
        endpoint.set_state(ConnectivityState::Ready);
        let begun = Instant::now();
        tokio::time::advance(Duration::from_secs(1)).await;
        endpoint.set_state(ConnectivityState::Ready);
        assert_eq!(endpoint.ready_since(), Some(begun));
        endpoint.set_state(ConnectivityState::Idle);
        assert_eq!(endpoint.ready_since(), None);
        endpoint.set_state(ConnectivityState::Ready);
        assert_eq!(endpoint.ready_since(), Some(Instant::now()));
    }

    #[test]
    fn latency_is_an_average_that_follows_the_calls() {
        let endpoint = endpoint();
        assert_eq!(endpoint.latency(), None);
        for millis in std::iter::once(8).chain(std::iter::repeat_n(80, 50)) {
            endpoint.call_started();
            endpoint.call_ended(Some(Duration::from_millis(millis)));
        }
        let latency = endpoint.latency().expect("calls have ended");
        assert!(latency > Duration::from_millis(79) && latency <= Duration::from_millis(80), "{latency:?}");
    }
}
