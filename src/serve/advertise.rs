//! The address at which others reach a server.

use std::env;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use callboard_core::{Address, Error, ErrorKind, Result, Target};
use tokio::net::lookup_host;
use tokio::time::timeout;

/// Where others reach it, as `host` or `host:port`.
const ADVERTISE: &str = "CALLBOARD_ADVERTISE";
/// What Kubernetes' downward API is asked to set.
const POD_IP: &str = "POD_IP";
/// The bound of looking up one name.
const LOOKUP: Duration = Duration::from_secs(5);

/// The address at which others reach a server that is bound to this one. The first of these that there is:
/// 1. the bound address, unless it is unspecified (`0.0.0.0`, `[::]`);
/// 2. the variable `CALLBOARD_ADVERTISE`: a host, or a host with a port where another one leads here;
/// 3. the variable `POD_IP`;
/// 4. this machine's own address on the way to the registry: `registry_hosts` are hosts of it, with or without a port, as
///    [`Target::hosts`](crate::Target::hosts) gives them. [`serve`](crate::serve) gives none of Consul's, whose agent is
///    on this machine whoever is told by it, and loopback for a directory. Names are looked up, in at most 5 s each;
///    nothing is sent to the registry. An address of a family that the server does not listen on is not taken.
///
/// The port is that of the bound address, which the system has chosen if port 0 was asked for. A variable that is empty
/// counts as not set, and none overrides a specific bound address. Which of the ways it was is logged.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
/// let bound = listener.local_addr()?;
/// assert_eq!(callboard::advertised(bound, &[]).await?.to_string(), bound.to_string());
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`Invalid`](ErrorKind::Invalid) if there is none of them, with all the ways to say it; or if a variable is malformed.
pub async fn advertised(bound: SocketAddr, registry_hosts: &[String]) -> Result<Address> {
    let variable = |name: &str| env::var(name).ok();
    let (address, from) = match told(bound, variable)? {
        Some(told) => told,
        None => match on_the_way(bound, registry_hosts).await {
            Some(ip) => (SocketAddr::new(ip, bound.port()).into(), "the way to the registry"),
            None => return Err(nowhere(bound)),
        },
    };
    tracing::info!(%address, %bound, from, "the address that others are told");
    Ok(address)
}

/// The hosts of the registry that a URL names, if the way there tells where others reach a server: others have to come
/// from there too.
pub(super) fn registry_hosts(target: &Target) -> Vec<String> {
    match target.scheme() {
        // A directory is on this machine, and so is everybody who watches it.
        "file" => vec![Ipv4Addr::LOCALHOST.to_string()],
        // The agent is on this machine, but those whom it tells are not.
        "consul" => Vec::new(),
        _ => target.hosts().to_vec(),
    }
}

/// What needs no I/O, and where it is from.
fn told(bound: SocketAddr, variable: impl Fn(&str) -> Option<String>) -> Result<Option<(Address, &'static str)>> {
    if !bound.ip().is_unspecified() {
        return Ok(Some((bound.into(), "the bound socket")));
    }
    for name in [ADVERTISE, POD_IP] {
        if let Some(text) = variable(name).filter(|text| !text.is_empty()) {
            let bad =
                |error: Error| Error::invalid(format!("variable {name}: {text:?} is no address")).with_source(error);
            return host_or_address(&text, bound.port()).map(|address| Some((address, name))).map_err(bad);
        }
    }
    Ok(None)
}

/// Reads a host, or a host and a port. IPv6 stands in brackets where a port follows.
fn host_or_address(text: &str, port: u16) -> Result<Address> {
    let bare =
        text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|v6| v6.parse::<Ipv6Addr>().is_ok());
    match bare {
        Some(v6) => Address::tcp(v6, port),
        None if text.contains(':') && text.parse::<Ipv6Addr>().is_err() => text.parse(),
        None => Address::tcp(text, port),
    }
}

/// The address from which this machine reaches the first of these hosts that it can reach.
async fn on_the_way(bound: SocketAddr, hosts: &[String]) -> Option<IpAddr> {
    for host in hosts {
        // Any port will do: a way is a way to a host.
        let Ok(Address::Tcp { host, port, .. }) = host_or_address(host, 1) else { continue };
        let Ok(Ok(found)) = timeout(LOOKUP, lookup_host((host.as_str(), port))).await else { continue };
        if let Some(ip) = found.filter_map(local_towards).find(|ip| listens_on(bound, *ip)) {
            return Some(ip);
        }
    }
    None
}

/// Asks the system for the way. To connect a UDP socket sends nothing.
fn local_towards(remote: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(remote).ok()?;
    let local = socket.local_addr().ok()?.ip();
    (!local.is_unspecified()).then_some(local)
}

/// A socket that is bound to `[::]` hears IPv4 too, unless the system is told otherwise.
fn listens_on(bound: SocketAddr, ip: IpAddr) -> bool {
    bound.is_ipv6() || ip.is_ipv4()
}

fn nowhere(bound: SocketAddr) -> Error {
    let message = format!(
        "where do others reach the server that listens on {bound}? Say it by Serve::advertise or by the variable \
         {ADVERTISE} (host or host:port) or {POD_IP}, listen on a specific address, or sign in by a URL whose registry \
         this machine has a way to"
    );
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(text: &str) -> SocketAddr {
        text.parse().expect(text)
    }

    fn told_by(at: &str, variables: &[(&str, &str)]) -> Result<Option<(String, &'static str)>> {
        let variable =
            |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        Ok(told(bound(at), variable)?.map(|(address, from)| (address.to_string(), from)))
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
            ("0.0.0.0:80", vec![], None),
        ] {
            let told = told_by(at, &variables).expect(at);
            let told = told.as_ref().map(|(address, from)| (address.as_str(), *from));
            assert_eq!(told, expected, "{at} {variables:?}");
        }
    }

    #[test]
    fn a_bad_variable_is_named_and_nothing_else_is_taken() {
        for (name, text) in [(ADVERTISE, "0.0.0.0"), (ADVERTISE, "a:0"), (ADVERTISE, "a b"), (POD_IP, "[::]")] {
            let error = told_by("0.0.0.0:80", &[(name, text), (POD_IP, "10.0.0.9")][..1]).expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.chain().contains(name) && error.chain().contains(text), "{}", error.chain());
        }
    }

    #[test]
    fn the_way_to_an_agent_on_this_machine_says_nothing_of_others() {
        for (url, hosts) in [
            ("etcd://10.0.0.1:2379,h2/s", vec!["10.0.0.1:2379", "h2"]),
            ("file:///run/board/s", vec!["127.0.0.1"]),
            ("consul://127.0.0.1:8500/s", vec![]),
        ] {
            assert_eq!(registry_hosts(&url.parse().expect(url)), hosts, "{url}");
        }
    }

    #[tokio::test]
    async fn the_way_to_a_host_on_loopback_is_loopback() {
        for host in ["127.0.0.1", "127.0.0.1:2379", "localhost:2379"] {
            let ip = on_the_way(bound("0.0.0.0:80"), &["no such host".to_owned(), host.to_owned()]).await;
            assert_eq!(ip, Some(Ipv4Addr::LOCALHOST.into()), "{host}");
        }
    }

    #[tokio::test]
    async fn without_a_way_the_error_names_them_all() {
        assert_eq!(on_the_way(bound("0.0.0.0:80"), &["[::1]:2379".to_owned()]).await, None, "it does not listen there");
        let message = nowhere(bound("0.0.0.0:80")).to_string();
        for part in ["0.0.0.0:80", "Serve::advertise", ADVERTISE, POD_IP, "specific address", "URL"] {
            assert!(message.contains(part), "no {part} in {message}");
        }
    }
}
