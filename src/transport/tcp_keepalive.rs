//! Detecting a dead host by TCP keepalive.

use std::io;
use std::time::Duration;

use callboard_core::{Error, Result};
use socket2::SockRef;

/// When the system sends a probe on a silent TCP connection, and how long a connection may be without an
/// acknowledgement before the system closes it. Servers do not count probes, and the peer's system answers them, not
/// its process: they detect a host or a network that is gone. A process that hangs is detected by
/// [`Keepalive`](crate::Keepalive).
///
/// By default the first probe is sent after 10 to 20 s of silence, then one every 10 s, and the connection is closed
/// when nothing has been acknowledged for 60 s. So at least three probes in a row may be lost. Each connection draws
/// its own time between half of [`after`](Self::after) and the whole, so that connections that were made together do
/// not send probes together, which would overflow a queue on the way.
///
/// The last value, the [user timeout](Self::user_timeout), is available on Linux only. It also bounds how long data may
/// be unacknowledged, and how long a peer may acknowledge but **accept no data** (its receive window is zero). A server
/// that reads nothing for longer than a minute loses its connection. Raise the timeout, or turn it off, for servers
/// that may hang for longer.
///
/// ```
/// # fn doc(builder: callboard::ChannelBuilder) -> callboard::ChannelBuilder {
/// use std::time::Duration;
/// use callboard::TcpKeepalive;
///
/// // A host that is gone is to be noticed within 12 s: probes after 2 to 4 s, then every 2 s.
/// let quick = TcpKeepalive::after(Duration::from_secs(4)).interval(Duration::from_secs(2)).probes(3);
/// builder.tcp_keepalive(quick.user_timeout(Duration::from_secs(10)))
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpKeepalive {
    /// None: no probes.
    idle: Option<Duration>,
    interval: Duration,
    probes: u32,
    user_timeout: UserTimeout,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum UserTimeout {
    /// [`USER_TIMEOUT`], or longer if the probes take longer.
    Fitting,
    System,
    After(Duration),
}

const IDLE: Duration = Duration::from_secs(20);
const INTERVAL: Duration = Duration::from_secs(10);
const PROBES: u32 = 4;
/// Longer than a slow server may hang.
const USER_TIMEOUT: Duration = Duration::from_secs(60);

const SECOND: Duration = Duration::from_secs(1);
/// The largest value that Linux accepts.
const LONGEST: Duration = Duration::from_secs(32_767);
const MOST_PROBES: u32 = 127;
const LONGEST_USER_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

impl Default for TcpKeepalive {
    /// A probe after 10 to 20 s of silence, further ones every 10 s, four in all, and a user timeout of 60 s.
    fn default() -> Self {
        Self::after(IDLE)
    }
}

impl TcpKeepalive {
    /// Sends the first probe after this long a silence, or up to half of it earlier. Systems count whole seconds; less
    /// than 1 s counts as 1 s, and more than 32,767 s (9 hours) as 32,767 s.
    pub fn after(silence: Duration) -> Self {
        let idle = Some(silence.clamp(SECOND, LONGEST));
        Self { idle, interval: INTERVAL, probes: PROBES, user_timeout: UserTimeout::Fitting }
    }

    /// Sends no probes. A connection with nothing to send is then kept as long as the HTTP/2
    /// [`Keepalive`](crate::Keepalive) keeps it; unacknowledged data is still bounded by the user timeout.
    pub fn off() -> Self {
        Self { idle: None, ..Self::default() }
    }

    /// Sets the interval of further probes. 10 s by default; bounds as for [`after`](Self::after).
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval.clamp(SECOND, LONGEST);
        self
    }

    /// Sets after how many unanswered probes in a row the connection is closed. 4 by default; from 1 to 127.
    #[must_use]
    pub fn probes(mut self, probes: u32) -> Self {
        self.probes = probes.clamp(1, MOST_PROBES);
        self
    }

    /// Sets how long sent data may be unacknowledged, or the peer may accept no data, before the connection is closed:
    /// `TCP_USER_TIMEOUT` on Linux; other systems ignore it. `None` leaves it to the system: by default some 15 minutes
    /// for data, the [probes](Self::probes) for silence, and no bound for a peer that accepts no data.
    ///
    /// By default 60 s, or the time of all probes if that is longer. The timeout also applies to probes, whatever their
    /// number. So a timeout that is shorter than the probes take is rejected when the channel is built: it would close
    /// a healthy connection after its first lost probe.
    #[must_use]
    pub fn user_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.user_timeout = match timeout.into() {
            Some(timeout) => UserTimeout::After(timeout.min(LONGEST_USER_TIMEOUT)),
            None => UserTimeout::System,
        };
        self
    }

    /// The time from the last sign of life until all probes are lost.
    fn patience(&self) -> Duration {
        self.idle.map_or(Duration::ZERO, |idle| (idle + self.interval * self.probes).min(LONGEST_USER_TIMEOUT))
    }

    /// The longest time until a dead host is detected: the system checks at each probe.
    #[cfg(test)]
    pub(super) fn given_up_within(&self) -> Duration {
        self.interval + USER_TIMEOUT.max(self.patience())
    }

    /// # Errors
    /// [`Invalid`](callboard_core::ErrorKind::Invalid), if the user timeout would close a connection before
    /// the probes are lost.
    pub(crate) fn check(&self) -> Result<()> {
        let UserTimeout::After(timeout) = self.user_timeout else { return Ok(()) };
        let patience = self.patience().max(Duration::from_millis(1));
        if timeout >= patience {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "tcp_keepalive: the user timeout {timeout:?} is shorter than the {patience:?} that {} probes may take, so a \
             lost one would end a healthy connection: raise it, or lower after, interval or probes",
            self.probes
        )))
    }

    /// Sets up a connected socket.
    pub(super) fn apply(&self, socket: &SockRef<'_>) -> io::Result<()> {
        if let Some(idle) = self.idle {
            let keepalive = socket2::TcpKeepalive::new().with_time(own_share(idle));
            socket.set_tcp_keepalive(&keepalive.with_interval(self.interval).with_retries(self.probes))?;
        }
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(match self.user_timeout {
            UserTimeout::Fitting => Some(USER_TIMEOUT.max(self.patience())),
            UserTimeout::After(timeout) => Some(timeout),
            UserTimeout::System => None,
        })?;
        Ok(())
    }
}

/// A random time for one connection, between half of `whole` and `whole`. In whole seconds, as the system counts.
fn own_share(whole: Duration) -> Duration {
    let whole = whole.as_secs();
    Duration::from_secs(fastrand::u64(whole.div_ceil(2)..=whole).max(1))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use proptest::prelude::*;

    use super::*;

    /// How many probes in a row may be lost on any connection.
    const MAY_BE_LOST: u32 = 3;

    /// The options of a connected socket: idle time, interval, probes and user timeout.
    fn set(keepalive: &TcpKeepalive, stream: &TcpStream) -> (Duration, Duration, u32, Option<Duration>) {
        let socket = SockRef::from(stream);
        keepalive.apply(&socket).expect("the options are set");
        assert!(socket.keepalive().expect("an option"));
        let time = socket.tcp_keepalive_time().expect("an option");
        let interval = socket.tcp_keepalive_interval().expect("an option");
        let retries = socket.tcp_keepalive_retries().expect("an option");
        #[cfg(target_os = "linux")]
        return (time, interval, retries, socket.tcp_user_timeout().expect("an option"));
        #[cfg(not(target_os = "linux"))]
        (time, interval, retries, None)
    }

    fn connected() -> (TcpListener, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        (listener, stream)
    }

    #[test]
    fn three_probes_may_be_lost_and_a_server_may_stand_still_for_a_minute() {
        let (_listener, stream) = connected();
        let mut times = BTreeSet::new();
        for _ in 0..500 {
            let (idle, interval, probes, user_timeout) = set(&TcpKeepalive::default(), &stream);
            times.insert(idle);
            assert!(probes > MAY_BE_LOST);
            if let Some(user_timeout) = user_timeout {
                // The probe after the lost ones is sent, and waited for.
                assert!(user_timeout >= idle + interval * (MAY_BE_LOST + 1), "{idle:?} {interval:?} {user_timeout:?}");
                assert!(user_timeout >= Duration::from_secs(60));
            }
        }
        let (shortest, longest) = (times.first().expect("one"), times.last().expect("one"));
        assert_eq!((*shortest, *longest), (IDLE / 2, IDLE), "they do not all ask at once: {times:?}");
        assert!(times.len() > 8, "{times:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_is_set_a_socket_takes_it_and_probes_decide_before_the_user_timeout(
            idle in any::<Duration>(), interval in any::<Duration>(), probes in any::<u32>(),
            seconds in 0..120_u64, user_timeout in prop::option::of(any::<Duration>()), small in any::<bool>(),
        ) {
            let (idle, interval) = if small { (Duration::from_secs(idle.as_secs() % 40), Duration::from_secs(interval.as_secs() % 40)) } else { (idle, interval) };
            let fitting = TcpKeepalive::after(idle).interval(interval).probes(probes);
            let set_by_hand = fitting.clone().user_timeout(user_timeout);
            let short = fitting.clone().user_timeout(Duration::from_secs(seconds));
            let (_listener, stream) = connected();
            for keepalive in [fitting, set_by_hand, short] {
                if keepalive.check().is_err() {
                    continue;
                }
                let (idle, interval, probes, user_timeout) = set(&keepalive, &stream);
                if let Some(user_timeout) = user_timeout {
                    prop_assert!(user_timeout >= (idle + interval * probes).min(LONGEST_USER_TIMEOUT));
                }
            }
        }
    }

    #[test]
    fn a_user_timeout_that_ends_healthy_connections_is_refused_with_the_reason() {
        let twenty = Duration::from_secs(20);
        let error = TcpKeepalive::default().user_timeout(twenty).check().expect_err("one lost probe");
        for part in ["user timeout 20s", "60s", "4 probes"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(TcpKeepalive::off().user_timeout(twenty).check().is_ok(), "there are no probes");
        assert!(TcpKeepalive::off().user_timeout(Duration::ZERO).check().is_err());
        assert!(TcpKeepalive::default().user_timeout(None).check().is_ok());
        let edge = TcpKeepalive::after(SECOND).interval(SECOND).probes(3).user_timeout(Duration::from_secs(4));
        assert!(edge.check().is_ok());
    }
}
