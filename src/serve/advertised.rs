//! The address that others are told: how it is written, and what is logged of it.

use std::net::Ipv6Addr;

use callboard_core::{Address, Result};

use super::listener::Bound;

/// Where others reach it, as `host` or `host:port`.
pub(super) const ADVERTISE: &str = "CALLBOARD_ADVERTISE";
/// What Kubernetes' downward API is asked to set.
pub(super) const POD_IP: &str = "POD_IP";

/// Logs the address that others are told, and hands it back.
pub(super) fn noted(address: Address, bound: &Bound, from: &str) -> Address {
    tracing::info!(%address, %bound, from, "the address that others are told");
    if has_zone(&address) {
        tracing::warn!(%address, "the address has a zone, which means something on this machine alone");
    }
    address
}

/// What to do where nothing says it.
pub(super) fn how_to_say_it() -> String {
    format!(
        "Say it by Serve::advertise or by the variable {ADVERTISE} (host or host:port; 127.0.0.1 if everybody is on this \
         machine) or {POD_IP}, listen on a specific address, or sign in by a URL whose registry this machine has a way to \
         that is not loopback"
    )
}

/// Reads a host, or a host and a port. IPv6 stands in brackets where a port follows.
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
