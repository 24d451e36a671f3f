//! The address to advertise for a server: where it comes from, and which addresses are refused.

use std::env;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use callboard_core::{Address, Error, Result, Target};

use super::advertised::{ADVERTISE, POD_IP, host_or_address, how_to_say_it, noted};
use super::listener::{Bound, Listener};
use super::route::Way;

/// Finds the address at which clients reach a server that listens here. The first of these counts:
/// 1. The bound address, unless it is unspecified (`0.0.0.0`, `[::]`, in any spelling). For a Unix socket, this is its
///    path or abstract name. An address with a zone (`[fe80::1%2]`) works on this machine alone, which is logged as a
///    warning.
/// 2. The variable `CALLBOARD_ADVERTISE`: a host, or a host and a port if clients use another port.
/// 3. The variable `POD_IP`.
/// 4. This machine's own address on the route to the registry. `registry_hosts` are the registry's hosts, with or
///    without a port, as [`Target::hosts`](crate::Target::hosts) returns them. Names are looked up, all at once, in at
///    most 5 s, and the first useful answer counts. Nothing is sent to the registry. [`serve`](crate::serve) passes no
///    hosts for Consul, as its agent is on this machine while its readers are not. For a file registry it takes
///    loopback, as all readers are on this machine.
///
/// The fourth is a guess. It is refused where clients could not use it: an address of a family on which the server does
/// not listen; a link-local address, which needs a zone of each client's own; and loopback, which is the route to a
/// registry behind a tunnel or a proxy, and would send each client to itself. If servers, clients and registry are on
/// one machine, set `CALLBOARD_ADVERTISE=127.0.0.1`.
///
/// The port is that of the bound address; the system has chosen it if port 0 was requested. An empty variable counts as
/// not set. No variable overrides a specific bound address. The log says where the address comes from.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let address = callboard::advertise_address(&listener, &[]).await?;
/// assert_eq!(address.to_string(), listener.local_addr()?.to_string());
/// # Ok(()) }
/// ```
///
/// # Errors
/// - [`Invalid`](crate::ErrorKind::Invalid) if no address is found, or if a variable is malformed. The message lists
///   all ways to set the address. Trying again does not help.
/// - [`Unavailable`](crate::ErrorKind::Unavailable) if the registry's hosts cannot be looked up now, or there is no
///   route to them yet. Try again later.
pub async fn advertise_address(listener: &impl Listener, registry_hosts: &[String]) -> Result<Address> {
    match reach(&Bound::of(listener)?, &Place::Hosts(registry_hosts.to_vec()))? {
        Reach::At(address) => Ok(address),
        Reach::Along(way) => way.find().await,
    }
}

/// Where the registry is. Clients have to reach it too, so its location says which of this machine's addresses they can
/// use.
#[derive(Debug)]
pub(super) enum Place {
    /// All readers are on this machine.
    ThisMachine,
    /// All readers have a route to these hosts.
    Hosts(Vec<String>),
}

impl Place {
    pub(super) fn of(target: &Target) -> Self {
        match target.scheme() {
            "file" => Self::ThisMachine,
            // The agent is on this machine, but its readers are not.
            "consul" => Self::Hosts(Vec::new()),
            _ => Self::Hosts(target.hosts().to_vec()),
        }
    }
}

/// How clients reach a server.
#[derive(Debug)]
pub(super) enum Reach {
    At(Address),
    /// The address is not known yet, and is on this route.
    Along(Way),
}

impl Reach {
    /// Limits the time of each attempt to find the address.
    pub(super) fn within(self, limit: Duration) -> Self {
        match self {
            Self::Along(way) => Self::Along(way.within(limit)),
            at @ Self::At(_) => at,
        }
    }
}

/// Finds how clients reach a server, without any I/O.
pub(super) fn reach(bound: &Bound, place: &Place) -> Result<Reach> {
    let variable = |name: &str| env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    if let Some((address, from)) = told(bound, variable)? {
        return Ok(Reach::At(noted(address, bound, from)));
    }
    let way = match (bound, place) {
        (Bound::Tcp { address, only_v6 }, Place::ThisMachine) => {
            let loopback = if *only_v6 { IpAddr::from(Ipv6Addr::LOCALHOST) } else { Ipv4Addr::LOCALHOST.into() };
            let address = SocketAddr::new(loopback, address.port()).try_into()?;
            return Ok(Reach::At(noted(address, bound, "a registry of this machine")));
        }
        (Bound::Tcp { .. }, Place::Hosts(hosts)) => Way::new(bound, hosts),
        (Bound::Unix(_), _) => None,
    };
    way.map(Reach::Along).ok_or_else(|| {
        Error::invalid(format!("no address to advertise for the server that listens on {bound}. {}", how_to_say_it()))
    })
}

/// The address, if no route is needed, and where it comes from.
fn told(bound: &Bound, variable: impl Fn(&str) -> Option<String>) -> Result<Option<(Address, &'static str)>> {
    let port = match bound {
        Bound::Tcp { address, .. } if address.ip().is_unspecified() => address.port(),
        Bound::Tcp { address, .. } => return Ok(Some(((*address).try_into()?, "the bound socket"))),
        Bound::Unix(address) => return Ok(Some((address.clone(), "the bound socket"))),
    };
    for name in [ADVERTISE, POD_IP] {
        if let Some(text) = variable(name).filter(|text| !text.is_empty()) {
            let bad =
                |error: Error| Error::invalid(format!("variable {name}: {text:?} is no address")).with_source(error);
            return host_or_address(&text, port).map(|address| Some((address, name))).map_err(bad);
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use callboard_core::ErrorKind;

    use super::super::advertised::has_zone;
    use super::*;

    fn bound(text: &str) -> Bound {
        Bound::Tcp { address: text.parse().expect(text), only_v6: false }
    }

    fn told_by(at: &str, variables: &[(&str, &str)]) -> Result<Option<(String, &'static str)>> {
        let variable =
            |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        Ok(told(&bound(at), variable)?.map(|(address, from)| (address.to_string(), from)))
    }

    #[test]
    fn the_first_that_there_is_counts() {
        let (advertise, pod) = ((ADVERTISE, "a.example"), (POD_IP, "10.0.0.9"));
        for (at, variables, expected) in [
            ("10.0.0.7:80", vec![advertise, pod], Some(("10.0.0.7:80", "the bound socket"))),
            ("[fd00::7]:80", vec![], Some(("[fd00::7]:80", "the bound socket"))),
            ("0.0.0.0:80", vec![pod, advertise], Some(("a.example:80", ADVERTISE))),
            ("[::]:80", vec![pod], Some(("10.0.0.9:80", POD_IP))),
            ("0.0.0.0:80", vec![(ADVERTISE, ""), pod], Some(("10.0.0.9:80", POD_IP))),
            ("0.0.0.0:80", vec![(ADVERTISE, "a.example:4000")], Some(("a.example:4000", ADVERTISE))),
            ("0.0.0.0:80", vec![(ADVERTISE, "fd00::1")], Some(("[fd00::1]:80", ADVERTISE))),
            ("0.0.0.0:80", vec![(ADVERTISE, "[fd00::1]")], Some(("[fd00::1]:80", ADVERTISE))),
            ("0.0.0.0:80", vec![(ADVERTISE, "[fd00::1]:4000")], Some(("[fd00::1]:4000", ADVERTISE))),
            ("0.0.0.0:80", vec![(ADVERTISE, "127.0.0.1")], Some(("127.0.0.1:80", ADVERTISE))),
            ("0.0.0.0:80", vec![], None),
        ] {
            let told = told_by(at, &variables).expect(at);
            let told = told.as_ref().map(|(address, from)| (address.as_str(), *from));
            assert_eq!(told, expected, "{at} {variables:?}");
        }
    }

    #[test]
    fn a_bad_variable_is_named_and_nothing_else_is_taken() {
        for (name, text) in [
            (ADVERTISE, "0.0.0.0"),
            (ADVERTISE, "a:0"),
            (ADVERTISE, "a b"),
            (ADVERTISE, "0x0"),
            (ADVERTISE, "[::ffff:0.0.0.0]:80"),
            (POD_IP, "[::]"),
            (POD_IP, "::ffff:0.0.0.0"),
            (POD_IP, "0"),
        ] {
            let error = told_by("0.0.0.0:80", &[(name, text), (POD_IP, "10.0.0.9")][..1]).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.chain().contains(name) && error.chain().contains(text), "{}", error.chain());
        }
    }

    #[test]
    fn where_the_registry_is_says_whether_there_is_a_way() {
        let at = |url: &str, bound: &str| {
            let port_0 = Bound::Tcp { address: bound.parse().expect(bound), only_v6: bound.starts_with("[::]") };
            reach(&port_0, &Place::of(&url.parse().expect(url)))
        };
        for url in ["etcd://10.0.0.1:2379,h2/s", "etcd://127.0.0.1:2379,h2/s", "zookeeper://h1:2181/s"] {
            assert!(matches!(at(url, "0.0.0.0:80"), Ok(Reach::Along(_))), "{url}");
        }
        for (bound, local) in [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80")] {
            let told = at("file:///run/board/s", bound);
            assert!(matches!(&told, Ok(Reach::At(address)) if address.to_string() == local), "{told:?}");
        }
        for url in ["consul://127.0.0.1:8500/s", "etcd://127.0.0.1:2379/s", "etcd://localhost:2379,[::1]:2379/s"] {
            let message = at(url, "0.0.0.0:80").expect_err(url).to_string();
            for part in ["0.0.0.0:80", "Serve::advertise", ADVERTISE, "127.0.0.1", POD_IP, "specific address", "URL"] {
                assert!(message.contains(part), "no {part} in {message}");
            }
        }
    }

    #[test]
    fn a_zone_is_seen() {
        let zoned = std::net::SocketAddrV6::new("fe80::1".parse().expect("an address"), 80, 0, 2);
        let zoned = Bound::Tcp { address: zoned.into(), only_v6: false };
        let (told, _) = told(&zoned, |_| None).expect("no variable").expect("it is bound");
        assert!(told.to_string() == "[fe80::1%2]:80" && has_zone(&told), "{told}");
    }
}
