//! Makes a list from the registered backends.

use std::net::{IpAddr, SocketAddr};

use callboard::lookaside::v1::Server;
use callboard::{Address, Instance};

/// How many entries a list may have. With many servers, each may still have a few.
const LONGEST: usize = 400;

/// A list with as many entries for each backend as its weight says, spread evenly. The protocol has no host names, so
/// backends at a host name or a Unix socket are left out.
pub(crate) fn of(backends: &[Instance]) -> Vec<Server> {
    let backends = backends.iter().filter(|backend| backend.weight() > 0);
    let servers: Vec<_> =
        backends.filter_map(|instance| Some((socket(instance.address())?, instance.weight()))).collect();
    let weights = reduced(servers.iter().map(|(_, weight)| *weight).collect());
    // The finest share: one server gets at most this many times the calls of another.
    let most = (LONGEST / servers.len().max(1)).clamp(4, 100) as u32;
    let heaviest = weights.iter().copied().max().unwrap_or(1);
    let scale = |weight: u32| (u64::from(weight) * u64::from(most) / u64::from(heaviest)).max(1) as u32;
    let copies = if heaviest > most { reduced(weights.into_iter().map(scale).collect()) } else { weights };
    let mut places: Vec<(f64, SocketAddr)> = Vec::new();
    for ((address, _), copies) in servers.iter().zip(copies) {
        places.extend((0..copies).map(|copy| ((f64::from(copy) + 0.5) / f64::from(copies), *address)));
    }
    places.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    // The token comes back with each call. Here it names this example.
    places.into_iter().map(|(_, address)| Server::at(address, "lookaside")).collect()
}

fn socket(address: &Address) -> Option<SocketAddr> {
    let (host, port) = address.host_and_port()?;
    Some(SocketAddr::new(host.parse::<IpAddr>().ok()?, port))
}

/// Removes the common factor, so that lists are as short as possible.
fn reduced(weights: Vec<u32>) -> Vec<u32> {
    let common = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    weights.into_iter().map(|weight| weight / common).collect()
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
