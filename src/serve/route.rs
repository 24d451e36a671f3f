//! This machine's own address on the route to a registry.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::thread;
use std::time::Duration;

use callboard_core::{Address, Error, ErrorKind, Result};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::advertised::{host_or_address, how_to_say_it, noted};
use super::listener::Bound;

/// How long looking up all names may take.
const LOOKUP: Duration = Duration::from_secs(5);

/// The route from a server to its registry.
#[derive(Debug)]
pub(super) struct Way {
    bound: SocketAddr,
    only_v6: bool,
    hosts: Vec<String>,
    /// How long one attempt may take.
    limit: Duration,
}

impl Way {
    /// None if all of these hosts are malformed or on this machine, so that no route to them helps.
    pub(super) fn new(bound: &Bound, hosts: &[String]) -> Option<Self> {
        let Bound::Tcp { address, only_v6 } = bound else { return None };
        // The port does not matter for the route to a host.
        let host_of = |text: &String| match host_or_address(text, 1) {
            Ok(address) => {
                let (host, _) = address.host_and_port()?;
                (!is_this_machine(host)).then(|| host.to_owned())
            }
            Err(_) => None,
        };
        let hosts: Vec<_> = hosts.iter().filter_map(host_of).collect();
        (!hosts.is_empty()).then_some(Self { bound: *address, only_v6: *only_v6, hosts, limit: LOOKUP })
    }

    /// A placeholder for the address until it is found. The name never exists (RFC 6761), and it is never registered.
    pub(super) fn unknown(&self) -> Result<Address> {
        Address::tcp("unknown.invalid", self.bound.port())
    }

    /// Limits the time of each attempt.
    pub(super) fn within(self, limit: Duration) -> Self {
        Self { limit: self.limit.min(limit), ..self }
    }

    /// Looks for the address once, in at most 5 s. The first host with a useful answer counts.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) if all hosts have answered and none of the answers is useful,
    /// [`Unavailable`](ErrorKind::Unavailable) if a later attempt may succeed. The message says why for each host.
    pub(super) async fn find(&self) -> Result<Address> {
        let until = Instant::now() + self.limit;
        let mut answers = lookups(&self.hosts);
        let mut reasons = BTreeMap::new();
        while let Ok(Some((host, found))) = timeout_at(until, answers.recv()).await {
            let later = |error| Error::new(ErrorKind::Unavailable, "cannot look it up").with_source(error);
            match found.map_err(later).and_then(|remotes| self.local_towards_one_of(&remotes)) {
                Ok(ip) => {
                    let bound = Bound::Tcp { address: self.bound, only_v6: self.only_v6 };
                    let address = SocketAddr::new(ip, self.bound.port()).try_into()?;
                    return Ok(noted(address, &bound, "the way to the registry"));
                }
                Err(error) => drop(reasons.insert(host, error)),
            }
        }
        Err(self.no_way(&reasons))
    }

    /// The error if no host leads to an address. A host without a reason has not answered.
    fn no_way(&self, reasons: &BTreeMap<String, Error>) -> Error {
        let silence =
            Error::new(ErrorKind::Unavailable, format!("cannot look it up: no answer within {:?}", self.limit));
        let told: Vec<_> = self.hosts.iter().map(|host| (host, reasons.get(host).unwrap_or(&silence))).collect();
        let passing = told.iter().any(|(_, why)| why.kind() == ErrorKind::Unavailable);
        let kind = if passing { ErrorKind::Unavailable } else { ErrorKind::Invalid };
        let why: Vec<_> = told.iter().map(|(host, why)| format!("{host}: {}", why.chain())).collect();
        let (bound, why) = (self.bound, why.join("; "));
        let message = format!(
            "the way to the registry gives no address to advertise for the server that listens on {bound} ({why}). {}",
            how_to_say_it()
        );
        Error::new(kind, message)
    }

    /// The first useful address from which this machine reaches one of these. The error is that of the last one.
    fn local_towards_one_of(&self, remotes: &[SocketAddr]) -> Result<IpAddr> {
        let mut last = Error::new(ErrorKind::Unavailable, "it has no address");
        for remote in remotes {
            match local_towards(*remote) {
                Err(error) => last = Error::new(ErrorKind::Unavailable, "there is no route to it").with_source(error),
                Ok(ip) => match self.complaint(ip) {
                    None => return Ok(ip),
                    Some(useless) => last = Error::invalid(useless),
                },
            }
        }
        Err(last)
    }

    /// Why clients cannot reach the server at an address on the route, if so.
    fn complaint(&self, ip: IpAddr) -> Option<&'static str> {
        // A socket that is bound to `[::]` accepts IPv4 too, unless `only_v6` is set.
        let heard = if ip.is_ipv4() { self.bound.is_ipv4() || !self.only_v6 } else { self.bound.is_ipv6() };
        match ip {
            _ if ip.is_unspecified() => Some("the system gives no address of its own"),
            _ if ip.is_loopback() => Some("the way there is loopback, which would lead clients to themselves"),
            IpAddr::V4(v4) if v4.is_link_local() => Some("the address on the way there is link-local"),
            IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("the address on the way there is link-local"),
            _ if !heard => Some("the server does not listen on the address family of the way there"),
            _ => None,
        }
    }
}

/// Whether a host is this machine, as far as that is known without a lookup.
fn is_this_machine(host: &str) -> bool {
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    // RFC 6761: these names are loopback everywhere.
    name == "localhost"
        || name.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// Looks names up, each on a thread of its own, and sends the answers as they come. On a thread of the runtime, a
/// lookup that takes half a minute would keep the runtime from ending.
fn lookups(hosts: &[String]) -> mpsc::UnboundedReceiver<(String, io::Result<Vec<SocketAddr>>)> {
    let (tell, told) = mpsc::unbounded_channel();
    // A send fails if the receiver has gone, which does not matter.
    for host in hosts.iter().cloned() {
        let (name, tell_from_there) = (host.clone(), tell.clone());
        let looking = move || {
            let found = (name.as_str(), 1).to_socket_addrs().map(Vec::from_iter);
            let _ = tell_from_there.send((name, found));
        };
        if let Err(error) = thread::Builder::new().name("callboard-lookup".to_owned()).spawn(looking) {
            let _ = tell.send((host, Err(error)));
        }
    }
    told
}

/// Asks the system for the route. Connecting a UDP socket sends nothing.
fn local_towards(remote: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(remote)?;
    Ok(socket.local_addr()?.ip().to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(bound: &str, only_v6: bool, hosts: &[&str]) -> Option<Way> {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        Way::new(&Bound::Tcp { address: bound.parse().expect(bound), only_v6 }, &hosts)
    }

    #[test]
    fn hosts_that_can_never_tell_anything_are_left_out() {
        for useless in
            ["127.0.0.1", "127.0.0.2:2379", "[::1]:1", "localhost:2379", "etcd.LOCALHOST.", "[::ffff:127.0.0.1]:1"]
        {
            assert!(way("0.0.0.0:80", false, &[useless]).is_none(), "{useless}");
        }
        for malformed in ["no such host", "0x0:2379", "0.0.0.0:2379", "[::]", ""] {
            assert!(way("0.0.0.0:80", false, &[malformed]).is_none(), "{malformed}");
        }
        let way = way("0.0.0.0:80", false, &["localhost", "registry.example:2379"]).expect("one is left");
        assert_eq!(way.hosts, ["registry.example"]);
    }

    #[test]
    fn an_address_on_the_way_that_would_lead_others_astray_is_not_taken() {
        for (bound, only_v6, ip, why) in [
            ("0.0.0.0:80", false, "10.0.0.1", None),
            ("0.0.0.0:80", false, "fd00::1", Some("family")),
            ("[::]:80", false, "10.0.0.1", None),
            ("[::]:80", true, "10.0.0.1", Some("family")),
            ("[::]:80", true, "fd00::1", None),
            ("0.0.0.0:80", false, "127.0.0.1", Some("loopback")),
            ("[::]:80", false, "::1", Some("loopback")),
            ("0.0.0.0:80", false, "169.254.0.9", Some("link-local")),
            ("[::]:80", false, "fe80::1", Some("link-local")),
            ("0.0.0.0:80", false, "0.0.0.0", Some("no address")),
        ] {
            let way = way(bound, only_v6, &["a"]).expect("a host");
            let complaint = way.complaint(ip.parse().expect(ip));
            assert_eq!(complaint.is_some(), why.is_some(), "{bound} {ip}");
            assert!(why.is_none_or(|why| complaint.unwrap_or_default().contains(why)), "{complaint:?}");
        }
    }

    #[tokio::test]
    async fn a_name_that_is_not_found_may_be_later_and_the_error_says_which() {
        let way = way("0.0.0.0:80", false, &["registry.invalid"]).expect("a host");
        let error = way.find().await.expect_err("RFC 6761: there is no such name");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        for part in ["registry.invalid", "look it up", "0.0.0.0:80", "CALLBOARD_ADVERTISE"] {
            assert!(error.to_string().contains(part), "no {part} in {error}");
        }
    }

    #[test]
    fn an_attempt_takes_no_longer_than_it_may_and_says_who_has_not_answered() {
        let within = |limit| way("0.0.0.0:80", false, &["a.example", "b.example"]).expect("two hosts").within(limit);
        assert_eq!(within(Duration::MAX).limit, LOOKUP);
        let useless = BTreeMap::from([("b.example".to_owned(), Error::invalid("of no use"))]);
        let error = within(Duration::from_millis(1_500)).no_way(&useless);
        assert_eq!(error.kind(), ErrorKind::Unavailable, "the other one may answer later");
        let why = "(a.example: cannot look it up: no answer within 1.5s; b.example: of no use)";
        assert!(error.to_string().contains(why), "{error}");
    }
}
