//! The advertised address: its syntax, and its log lines.

use std::net::Ipv6Addr;

use callboard_core::{Address, Result};

use super::listener::Bound;

/// The server's address for clients, as `host` or `host:port`.
pub(super) const ADVERTISE: &str = "CALLBOARD_ADVERTISE";
/// Set by Kubernetes' downward API.
pub(super) const POD_IP: &str = "POD_IP";

/// Logs the advertised address, and returns it.
pub(super) fn noted(address: Address, bound: &Bound, from: &str) -> Address {
    tracing::info!(%address, %bound, from, "found the address to advertise");
    if has_zone(&address) {
        tracing::warn!(%address, "the address has a zone, which is valid on this machine alone");
    }
    address
}

/// What to do if there is no address to advertise.
pub(super) fn how_to_say_it() -> String {
    format!(
        "Set it with Serve::advertise or with the variable {ADVERTISE} (host or host:port; 127.0.0.1 if all clients are on \
         this machine) or {POD_IP}, listen on a specific address, or register by a URL whose registry this machine reaches \
         by a route that is not loopback"
    )
}

/// Reads a host, or a host and a port. An IPv6 address before a port is in brackets.
pub(super) fn host_or_address(text: &str, port: u16) -> Result<Address> {
    let bare =
        text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).filter(|v6| v6.parse::<Ipv6Addr>().is_ok());
    match bare {
        Some(v6) => Address::tcp(v6, port),
        None if text.contains(':') && text.parse::<Ipv6Addr>().is_err() => text.parse(),
        None => Address::tcp(text, port),
    }
}

pub(super) fn has_zone(address: &Address) -> bool {
    address.host_and_port().is_some_and(|(host, _)| host.contains('%'))
}
