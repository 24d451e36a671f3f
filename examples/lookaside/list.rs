//! From who is signed in to a list.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use callboard::lookaside::v1::Server;
use callboard::{Address, Instance, InstanceKind};

/// The finest share there is: of two servers, one gets at most so many times the calls of the other.
const MOST: u32 = 100;

/// A list in which each backend stands as often as its weight says, spread evenly. The protocol knows no names, so those
/// at a host's name or a Unix socket are left out.
pub(crate) fn of(instances: &[Arc<Instance>]) -> Vec<Server> {
    let backends = instances.iter().filter(|instance| instance.kind == InstanceKind::Backend && instance.weight > 0);
    let servers: Vec<_> = backends.filter_map(|instance| Some((socket(&instance.address)?, instance.weight))).collect();
    let heaviest = servers.iter().map(|(_, weight)| *weight).max().unwrap_or(1);
    let scaled = |weight: u32| if heaviest > MOST { (weight * MOST / heaviest).max(1) } else { weight };
    let common = servers.iter().map(|(_, weight)| scaled(*weight)).fold(0, greatest_common_divisor).max(1);
    let mut places: Vec<(f64, SocketAddr)> = Vec::new();
    for (address, weight) in &servers {
        let copies = scaled(*weight) / common;
        places.extend((0..copies).map(|copy| ((f64::from(copy) + 0.5) / f64::from(copies), *address)));
    }
    places.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    // The token comes back with each call: here it says who sent it.
    places.into_iter().map(|(_, address)| Server::at(address, "lookaside")).collect()
}

fn socket(address: &Address) -> Option<SocketAddr> {
    match address {
        Address::Tcp { host, port, .. } => Some(SocketAddr::new(host.parse::<IpAddr>().ok()?, *port)),
        _ => None,
    }
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}
