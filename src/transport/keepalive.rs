//! Noticing that a peer has gone without saying so.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use callboard_core::later;
use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep_until};

/// When a connection that has been silent is asked for a sign of life, by an HTTP/2 PING.
///
/// The default is what servers accept without being told: grpc-go's close a connection that pings more than once in
/// five minutes, or at all while no call is in flight. Below it, TCP's own keepalive and user timeout notice a host
/// that is gone within 60 to 70 s ([`TcpKeepalive`](crate::TcpKeepalive)); those no server counts. Shorten the interval,
/// or ping [while idle](Self::while_idle), only for servers that are set to permit it. A server that asks for calm all the
/// same (GOAWAY with ENHANCE_YOUR_CALM and `too_many_pings`) is asked half as often from then on, until the registry says
/// that it was restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keepalive {
    pub(super) interval: Option<Duration>,
    pub(super) timeout: Duration,
    pub(super) while_idle: bool,
}

impl Default for Keepalive {
    /// A PING after 5 minutes and 10 seconds of silence while a call is in flight; 20 s for the answer.
    fn default() -> Self {
        Self { interval: Some(Duration::from_secs(310)), timeout: Duration::from_secs(20), while_idle: false }
    }
}

impl Keepalive {
    /// A PING after so much silence while a call is in flight. Below 1 s it counts as 1 s.
    pub fn every(interval: Duration) -> Self {
        Self { interval: Some(interval.max(Duration::from_secs(1))), ..Self::default() }
    }

    /// No PING at all. TCP's own keepalive, [`TcpKeepalive`](crate::TcpKeepalive), stays.
    pub fn off() -> Self {
        Self { interval: None, ..Self::default() }
    }

    /// How long the answer may take before the connection counts as dead. 20 s by default; below 100 ms it counts as that,
    /// because no answer is there at once. A server that stands still and reads nothing for so long counts as dead too.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.max(Duration::from_millis(100));
        self
    }

    /// Whether a connection is asked while no call is in flight, too. Not by default.
    #[must_use]
    pub fn while_idle(mut self, while_idle: bool) -> Self {
        self.while_idle = while_idle;
        self
    }
}

impl Keepalive {
    /// Half as often, for a server that has asked for calm.
    pub(crate) fn calmer(&mut self) {
        self.interval = self.interval.map(|interval| interval.saturating_mul(2));
    }
}

/// The keepalive of one connection, polled by its driver.
pub(super) struct Heart {
    rules: Keepalive,
    interval: Duration,
    /// When to look next: the end of the silence that is allowed, or of the wait for an answer.
    alarm: Pin<Box<Sleep>>,
    /// Set while an answer is awaited: what had been read when the PING was sent.
    asked: Option<u64>,
    read: u64,
    since: Instant,
}

impl Heart {
    /// None if the rules say so.
    pub(super) fn new(rules: &Keepalive) -> Option<Self> {
        let (interval, now) = (rules.interval?, Instant::now());
        let alarm = Box::pin(sleep_until(later(now, interval)));
        Some(Self { rules: rules.clone(), interval, alarm, asked: None, read: 0, since: now })
    }

    /// Resolves when the peer counts as dead. `answered` is whether an answer to a PING has come, `read` how many bytes were
    /// ever read from the peer, any of which is a sign of life; `busy` is whether a call is in flight.
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
                // It fails if the answer to an earlier one is still awaited; then that answer will do.
                let _ = pings.send_ping(Ping::opaque());
                self.asked = Some(read);
                self.alarm.as_mut().reset(later(now, self.rules.timeout));
            } else {
                self.alarm.as_mut().reset(later(now, self.interval));
            }
        }
    }
}
