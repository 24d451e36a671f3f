//! Detecting a dead peer by HTTP/2 PINGs.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use callboard_core::later;
use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep_until};

/// When an HTTP/2 PING is sent on a silent connection, to check that the peer is alive.
///
/// The default is what servers accept without configuration: grpc-go's servers close a connection that sends PINGs more
/// than once in five minutes, or at all while no call is in flight. A host that is gone is noticed sooner, within 60 to
/// 70 s, by TCP's own keepalive and user timeout ([`TcpKeepalive`](crate::TcpKeepalive)); servers do not count those.
/// Shorten the interval, or ping [while idle](Self::while_idle), only for servers that are configured to permit it. If
/// a server still asks for fewer PINGs (GOAWAY with ENHANCE_YOUR_CALM and `too_many_pings`), the interval is doubled
/// for it, until the registry reports that it was restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keepalive {
    pub(super) interval: Option<Duration>,
    pub(super) timeout: Duration,
    pub(super) while_idle: bool,
}

impl Default for Keepalive {
    /// A PING after 5 minutes and 10 seconds of silence while a call is in flight, and 20 s for its acknowledgement.
    fn default() -> Self {
        Self { interval: Some(Duration::from_secs(310)), timeout: Duration::from_secs(20), while_idle: false }
    }
}

impl Keepalive {
    /// A PING after this long a silence while a call is in flight. Less than 1 s counts as 1 s.
    pub fn every(interval: Duration) -> Self {
        Self { interval: Some(interval.max(Duration::from_secs(1))), ..Self::default() }
    }

    /// No PING at all. TCP's own keepalive, [`TcpKeepalive`](crate::TcpKeepalive), stays.
    pub fn off() -> Self {
        Self { interval: None, ..Self::default() }
    }

    /// Sets how long the acknowledgement may take before the connection counts as dead. 20 s by default; less than 100
    /// ms counts as 100 ms, because no acknowledgement comes at once. A server that hangs and reads nothing for so long
    /// counts as dead too.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.max(Duration::from_millis(100));
        self
    }

    /// Sets whether PINGs are also sent while no call is in flight. False by default.
    #[must_use]
    pub fn while_idle(mut self, while_idle: bool) -> Self {
        self.while_idle = while_idle;
        self
    }
}

impl Keepalive {
    /// Doubles the interval, for a server that asks for fewer PINGs.
    pub(crate) fn calmer(&mut self) {
        self.interval = self.interval.map(|interval| interval.saturating_mul(2));
    }
}

/// The keepalive of one connection, polled by its driver.
pub(super) struct PingTimer {
    rules: Keepalive,
    interval: Duration,
    /// When to check next: at the end of the permitted silence, or of the wait for an acknowledgement.
    alarm: Pin<Box<Sleep>>,
    /// Set while an acknowledgement is awaited: how many bytes had been read when the PING was sent.
    asked: Option<u64>,
    read: u64,
    since: Instant,
}

impl PingTimer {
    /// None if keepalive is off.
    pub(super) fn new(rules: &Keepalive) -> Option<Self> {
        let (interval, now) = (rules.interval?, Instant::now());
        let alarm = Box::pin(sleep_until(later(now, interval)));
        Some(Self { rules: rules.clone(), interval, alarm, asked: None, read: 0, since: now })
    }

    /// Resolves when the peer counts as dead. `answered` is whether a PING was acknowledged. `read` is how many bytes
    /// were ever read from the peer, any of which is a sign of life. `busy` is whether a call is in flight.
    pub(super) fn poll_dead(
        &mut self,
        cx: &mut Context<'_>,
        pings: &mut PingPong,
        answered: bool,
        read: u64,
        busy: bool,
    ) -> Poll<()> {
        if read != self.read {
            (self.read, self.since) = (read, Instant::now());
        }
        if answered || self.asked.is_some_and(|then| then != read) {
            self.asked = None;
            self.alarm.as_mut().reset(later(self.since, self.interval));
        }
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            let now = Instant::now();
            if self.asked.is_some() {
                return Poll::Ready(());
            }
            let due = later(self.since, self.interval);
            if due > now {
                self.alarm.as_mut().reset(due);
            } else if busy || self.rules.while_idle {
                // It fails while an earlier PING is outstanding; the acknowledgement of that one will do.
                let _ = pings.send_ping(Ping::opaque());
                self.asked = Some(read);
                self.alarm.as_mut().reset(later(now, self.rules.timeout));
            } else {
                self.alarm.as_mut().reset(later(now, self.interval));
            }
        }
    }
}
