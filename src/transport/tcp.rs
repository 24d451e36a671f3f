//! TCP connections of the operating system.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use callboard_core::{Error, ErrorKind, Result};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::TcpKeepalive;
use super::connect_error::failed;
use super::phase::Phase;
use super::progress::Progress;

/// How long one address of a name is tried alone, if time permits: RFC 8305's number.
const STAGGER: Duration = Duration::from_millis(250);

/// How sockets of the operating system are set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sockets {
    pub(crate) keepalive: TcpKeepalive,
    /// The local address of connections. None: the system chooses.
    pub(crate) local_address: Option<IpAddr>,
}

impl Sockets {
    /// Connects to the first address of the host that answers. `within` is the caller's time limit, from now on.
    pub(super) async fn connect(
        &self,
        host: &str,
        port: u16,
        within: Duration,
        progress: &Progress,
    ) -> Result<TcpStream> {
        let begun = Instant::now();
        let resolved = match host.parse::<IpAddr>() {
            Ok(ip) => vec![SocketAddr::new(ip, port)],
            Err(_) => {
                progress.enter(Phase::Name);
                let found =
                    lookup_host((host, port)).await.map_err(|error| failed("DNS: cannot resolve the name", error))?;
                found.collect()
            }
        };
        progress.enter(Phase::Tcp);
        let left = within.saturating_sub(begun.elapsed());
        let stream = self.first_to_answer(self.usable(resolved)?, left).await?;
        let socket = socket2::SockRef::from(&stream);
        stream
            .set_nodelay(true)
            .and_then(|()| self.keepalive.apply(&socket))
            .map_err(|error| failed("TCP: cannot set socket options", error))?;
        Ok(stream)
    }

    /// The addresses that have the family of the local address.
    fn usable(&self, mut resolved: Vec<SocketAddr>) -> Result<Vec<SocketAddr>> {
        if resolved.is_empty() {
            return Err(Error::new(ErrorKind::Unavailable, "DNS: the name has no address"));
        }
        let Some(local) = self.local_address else { return Ok(resolved) };
        resolved.retain(|address| address.is_ipv4() == local.is_ipv4());
        if resolved.is_empty() {
            let message = format!("TCP: no address of the family of the local address {local}");
            return Err(Error::new(ErrorKind::Unavailable, message));
        }
        Ok(resolved)
    }

    /// Tries the addresses of a name in turn, and returns the last error. While an address does not answer, the next
    /// one is tried beside it, so that it does not use up the time of all.
    async fn first_to_answer(&self, addresses: Vec<SocketAddr>, within: Duration) -> Result<TcpStream> {
        let stagger = stagger(addresses.len(), within);
        let mut addresses = addresses.into_iter().peekable();
        // Dropping it cancels the other attempts.
        let mut attempts = JoinSet::new();
        let mut last = None;
        loop {
            // The next attempt starts when one fails or takes long.
            attempts.extend(addresses.next().map(|address| dial(address, self.local_address)));
            tokio::select! {
                answer = attempts.join_next() => match answer {
                    Some(Ok(Ok(stream))) => return Ok(stream),
                    Some(Ok(Err(error))) => last = Some(error),
                    Some(Err(error)) => last = Some(failed("TCP: cannot connect", error)),
                    None => break,
                },
                () = sleep(stagger), if addresses.peek().is_some() => {}
            }
        }
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::Unavailable, "TCP: there is no address")))
    }
}

/// How long each address is tried alone. Short enough that time is left for the last one.
fn stagger(addresses: usize, within: Duration) -> Duration {
    let shares = u32::try_from(addresses).unwrap_or(u32::MAX).saturating_add(1);
    STAGGER.min(within / shares)
}

async fn dial(address: SocketAddr, local: Option<IpAddr>) -> Result<TcpStream> {
    connect_from(local, address).await.map_err(|error| {
        let from = local.map(|local| format!(" from {local}")).unwrap_or_default();
        failed(format!("TCP: cannot connect to {address}{from}"), error)
    })
}

async fn connect_from(local: Option<IpAddr>, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(local) = local {
        socket.bind((local, 0).into())?;
    }
    socket.connect(address).await
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use socket2::{Domain, Socket, Type};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn bound() -> (Socket, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
        let address = socket.local_addr().ok().and_then(|address| address.as_socket()).expect("an address");
        (socket, address)
    }

    /// An address that drops attempts to connect: its accept queue is full.
    fn deaf() -> (Vec<Socket>, SocketAddr) {
        let (socket, address) = bound();
        socket.listen(0).expect("it listens");
        let mut sockets = vec![socket];
        for _ in 0..4 {
            let one = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            one.set_nonblocking(true).expect("it does not wait");
            // The result is "in progress", whether or not the queue has room.
            let _ = one.connect(&address.into());
            sockets.push(one);
        }
        (sockets, address)
    }

    #[tokio::test]
    async fn addresses_are_tried_in_turn_and_one_that_hangs_does_not_keep_the_next_from_it() {
        let (_deaf, hangs) = deaf();
        let (_bound, refuses) = bound();
        let (listening, answers) = bound();
        listening.listen(16).expect("it listens");
        let sockets = Sockets::default();
        for addresses in [vec![answers], vec![refuses, answers], vec![hangs, answers], vec![hangs, refuses, answers]] {
            let begun = std::time::Instant::now();
            let waits = addresses.iter().filter(|address| **address == hangs).count();
            let stream = sockets.first_to_answer(addresses, LONG).await.expect("one answers");
            assert_eq!(stream.peer_addr().ok(), Some(answers));
            let took = begun.elapsed();
            assert!(took >= STAGGER * waits as u32 && took < STAGGER * 4, "{took:?} with {waits} waits");
        }
        let error = sockets.first_to_answer(vec![refuses, refuses], LONG).await.expect_err("both refuse");
        assert!(error.chain().contains("refused") && error.chain().contains(&refuses.to_string()), "{}", error.chain());
        let error = sockets.usable(Vec::new()).expect_err("there is none");
        assert!(error.to_string().contains("no address"), "{error}");
    }

    #[tokio::test]
    async fn the_last_address_has_its_turn_however_short_the_time_is() {
        let (_deaf, hangs) = deaf();
        let (listening, answers) = bound();
        listening.listen(16).expect("it listens");
        let within = Duration::from_millis(300);
        let addresses = vec![hangs, hangs, hangs, hangs, answers];
        let sockets = Sockets::default();
        let stream = tokio::time::timeout(within, sockets.first_to_answer(addresses, within)).await;
        assert_eq!(stream.expect("in time").expect("one answers").peer_addr().ok(), Some(answers));
        for (addresses, within) in [(0, Duration::ZERO), (1, Duration::MAX), (usize::MAX, Duration::MAX), (3, LONG)] {
            assert!(stagger(addresses, within).saturating_mul(addresses as u32) <= within);
        }
    }
}
