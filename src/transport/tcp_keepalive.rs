//! Noticing by TCP itself that a host has gone.

use std::io;
use std::time::Duration;

use callboard_core::{Error, Result};
use socket2::SockRef;

/// When the system asks a silent TCP connection for a sign of life (a probe), and how long a connection may go without
/// one before the system gives it up. No server counts probes, and no process answers them: they notice a host or a
/// network that is gone. A process that hangs is noticed by [`Keepalive`](crate::Keepalive).
///
/// By default a connection is asked after 10 to 20 s of silence, then every 10 s, and is given up when nothing has been
/// acknowledged for 60 s. So at least three probes in a row may be lost. Each connection draws its own time between half
/// of [`after`](Self::after) and the whole: those that were made together do not ask together, which would overflow a
/// queue on the way.
///
/// The last of the numbers, the [user timeout](Self::user_timeout), is Linux's and also bounds data that nobody acknowledges,
/// and a peer that acknowledges but **takes nothing for so long** (its receive window is zero): a server that does not
/// read for a minute is slow, and keeps its connection; one that does not read for longer loses it. Raise it, or turn
/// it off, for servers that may stand still for longer.
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
    /// None: the system is not told to ask at all.
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
/// Longer than a server may stand still that is only slow.
const USER_TIMEOUT: Duration = Duration::from_secs(60);

const SECOND: Duration = Duration::from_secs(1);
/// What Linux takes at most.
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
    /// Asks after so much silence, or up to half of it earlier. Systems count whole seconds; less than 1 s counts as
    /// that, and more than 32,767 s (9 hours) as those.
    pub fn after(silence: Duration) -> Self {
        let idle = Some(silence.clamp(SECOND, LONGEST));
        Self { idle, interval: INTERVAL, probes: PROBES, user_timeout: UserTimeout::Fitting }
    }

    /// Never asks. A connection with nothing to send is then kept for as long as the HTTP/2
    /// [`Keepalive`](crate::Keepalive) keeps it; data without acknowledgement is still bounded by the user timeout.
    pub fn off() -> Self {
        Self { idle: None, ..Self::default() }
    }

    /// How long each further probe is waited for. 10 s by default; bounds as for [`after`](Self::after).
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval.clamp(SECOND, LONGEST);
        self
    }

    /// How many probes in a row are without answer when the connection is given up: one less may be lost. 4 by default;
    /// from 1 to 127.
    #[must_use]
    pub fn probes(mut self, probes: u32) -> Self {
        self.probes = probes.clamp(1, MOST_PROBES);
        self
    }

    /// For how long what was sent may be without acknowledgement, or the peer may take nothing, before the connection is
    /// given up: `TCP_USER_TIMEOUT`, on Linux; other systems have no such thing, and ignore it. `None`: what the system
    /// does, which by default is some 15 minutes for data, the [probes](Self::probes) for silence, and no bound at all
    /// for a peer that takes nothing.
    ///
    /// By default 60 s, or what all the probes take if that is longer. It decides about probes too, whatever their
    /// number: so one that is shorter than the probes take is refused when the channel is built, as it would end a
    /// healthy connection after its first lost probe.
    #[must_use]
    pub fn user_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.user_timeout = match timeout.into() {
            Some(timeout) => UserTimeout::After(timeout.min(LONGEST_USER_TIMEOUT)),
            None => UserTimeout::System,
        };
        self
    }

    /// From the last sign of life to the moment when no probe has been answered.
    fn patience(&self) -> Duration {
        self.idle.map_or(Duration::ZERO, |idle| (idle + self.interval * self.probes).min(LONGEST_USER_TIMEOUT))
    }

    /// The longest time in which a host that is gone is noticed: the system looks at each probe.
    #[cfg(test)]
    pub(super) fn given_up_within(&self) -> Duration {
        self.interval + USER_TIMEOUT.max(self.patience())
    }

    /// # Errors
    /// [`Invalid`](callboard_core::ErrorKind::Invalid), if it would give up before the probes are lost.
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

/// A time of one connection's own, from half of the whole on. In whole seconds, as the system counts.
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

    /// What the system says of a connected socket: idle time, interval, probes and user timeout.
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
