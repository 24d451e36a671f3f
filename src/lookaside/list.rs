//! A balancer's list, decoded once.

use std::collections::{HashMap, hash_map};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use callboard_core::{Address, CallMetadata, Error, Incarnation, Instance, Result, Turns};
use http::HeaderValue;

use super::LB_TOKEN;
use super::counts::CallCounts;
use super::subset::Subset;
use super::v1;

/// gRPC's limit for a token, in bytes.
const LONGEST_TOKEN: usize = 50;

/// A balancer's list. Balancers are not trusted more than registries: invalid entries are skipped and counted, and an
/// entry is an address and a token, nothing else.
#[derive(Debug)]
pub(crate) struct List {
    entries: Vec<Entry>,
    /// Each address once, in the order of the list.
    servers: Vec<Arc<Instance>>,
    drops: usize,
    skipped: usize,
    /// The next entry. It is kept as long as the list is, so that the share of dropped calls does not depend on how
    /// often connections come and go.
    pub(super) turns: Turns,
    pub(super) counts: Arc<CallCounts>,
}

#[derive(Debug)]
pub(super) enum Entry {
    /// The index of the server among all servers of the list.
    Server {
        server: usize,
        /// The token for the server, if it has one.
        metadata: Option<Arc<CallMetadata>>,
    },
    Drop {
        token: Arc<str>,
    },
}

/// A valid entry.
enum Read {
    Server { address: Address, metadata: Option<Arc<CallMetadata>> },
    Drop { token: Arc<str> },
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Server { server, metadata }, Self::Server { server: other, metadata: theirs }) => {
                server == other && metadata == theirs
            }
            (Self::Drop { token }, Self::Drop { token: other }) => token == other,
            _ => false,
        }
    }
}

impl List {
    /// Decodes a list. None if it has entries and none of them is valid: such a list is ignored.
    pub(super) fn read(said: &[v1::Server], counts: &Arc<CallCounts>, subset: Subset) -> Option<Self> {
        let used = subset.apply(said).unwrap_or_else(|| said.iter().collect());
        if used.len() < said.len() {
            let (entries, used) = (said.len(), used.len());
            tracing::warn!(entries, used, "the balancer's list is too long: a random subset is used");
        }
        let mut entries = Vec::with_capacity(used.len());
        let (mut known, mut servers) = (HashMap::new(), Vec::new());
        let mut complaint = None;
        for (index, server) in used.iter().enumerate() {
            let entry = match read(server) {
                Ok(Read::Drop { token }) => Entry::Drop { token },
                Ok(Read::Server { address, metadata }) => {
                    let server = match known.entry(address) {
                        hash_map::Entry::Occupied(known) => *known.get(),
                        hash_map::Entry::Vacant(new) => {
                            servers.push(Arc::new(unlisted(new.key())?));
                            *new.insert(servers.len() - 1)
                        }
                    };
                    Entry::Server { server, metadata }
                }
                Err(error) => {
                    complaint.get_or_insert((index, error));
                    continue;
                }
            };
            entries.push(entry);
        }
        let skipped = used.len() - entries.len();
        if let Some((first, error)) = complaint {
            let (of, error) = (used.len(), error.chain());
            tracing::warn!(skipped, of, first, error, "entries of the balancer's list skipped");
        }
        if entries.is_empty() && skipped > 0 {
            return None;
        }
        let drops = entries.iter().filter(|entry| matches!(entry, Entry::Drop { .. })).count();
        let turns = Turns::new(fastrand::u64(..entries.len().max(1) as u64), 1);
        Some(Self { entries, servers, drops, skipped, turns, counts: Arc::clone(counts) })
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Each server once.
    pub(super) fn servers(&self) -> &[Arc<Instance>] {
        &self.servers
    }

    pub(super) fn drops(&self) -> usize {
        self.drops
    }

    pub(super) fn skipped(&self) -> usize {
        self.skipped
    }

    /// Whether both lists are equal.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        self.servers == other.servers && self.entries == other.entries && self.skipped == other.skipped
    }
}

impl fmt::Display for List {
    /// `2 servers in 3 entries, 1 drop entry`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} servers in {} entries", self.servers.len(), self.entries.len() - self.drops)?;
        match self.drops {
            0 => Ok(()),
            drops => write!(f, ", {drops} drop entries"),
        }
    }
}

fn read(server: &v1::Server) -> Result<Read> {
    let token = server.load_balance_token.as_str();
    if token.len() > LONGEST_TOKEN {
        return Err(Error::invalid(format!("a token of {} bytes: at most {LONGEST_TOKEN} are allowed", token.len())));
    }
    // gRPC's rule for ASCII metadata.
    let value = HeaderValue::from_str(token).ok().filter(|_| token.bytes().all(|b| (0x20..=0x7e).contains(&b)));
    let value = value.ok_or_else(|| Error::invalid("a token that is not valid in metadata"))?;
    if server.drop {
        return Ok(Read::Drop { token: token.into() });
    }
    let ip: IpAddr = match server.ip_address.as_slice() {
        four if four.len() == 4 => <[u8; 4]>::try_from(four).map(IpAddr::from).ok(),
        other => <[u8; 16]>::try_from(other).map(IpAddr::from).ok(),
    }
    .ok_or_else(|| Error::invalid(format!("an IP address of {} bytes", server.ip_address.len())))?;
    let port = u16::try_from(server.port).map_err(|_| Error::invalid(format!("port {}", server.port)))?;
    let address = Address::tcp(ip.to_string(), port)?;
    let metadata = match token.is_empty() {
        true => None,
        false => Some(Arc::new(CallMetadata::new().request(LB_TOKEN, value)?)),
    };
    Ok(Read::Server { address, metadata })
}

/// A server that is not in the registry. Its incarnation is not known, so any registered instance counts as newer.
fn unlisted(address: &Address) -> Option<Instance> {
    // An IP address and a port are an id, so there is always one.
    Instance::at(address.clone()).ok().map(|instance| instance.with_incarnation(Incarnation::from_micros(0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lookaside::v1::Server;

    fn read_list(said: &[Server]) -> Option<List> {
        List::read(said, &Arc::default(), Subset::to(100))
    }

    fn at(port: u16, token: &str) -> Server {
        Server::at(([127, 0, 0, 1], port).into(), token)
    }

    #[test]
    fn a_server_that_is_listed_twice_is_connected_once() {
        let list = read_list(&[at(1, "a"), at(2, "b"), at(1, "c"), Server::dropping("d")]).expect("a list");
        assert_eq!((list.entries().len(), list.servers().len(), list.drops(), list.skipped()), (4, 2, 1, 0));
        assert_eq!(list.to_string(), "2 servers in 3 entries, 1 drop entries");
    }

    #[test]
    fn entries_that_make_no_sense_are_skipped_and_counted() {
        let ip = |ip_address: &[u8], port| Server { ip_address: ip_address.to_vec(), port, ..Server::default() };
        let bad = [
            ip(&[1, 2, 3], 80),
            ip(&[], 80),
            ip(&[0; 17], 80),
            ip(&[0, 0, 0, 0], 80),
            ip(&[127, 0, 0, 1], 0),
            ip(&[127, 0, 0, 1], -1),
            ip(&[127, 0, 0, 1], 65_536),
            at(1, &"x".repeat(51)),
            at(1, "a\nb"),
            at(1, "grün"),
            Server::dropping("a\0"),
        ];
        for server in &bad {
            assert!(read_list(std::slice::from_ref(server)).is_none(), "{server:?}");
        }
        let said: Vec<_> = bad.iter().cloned().chain([at(1, &"x".repeat(50))]).collect();
        let list = read_list(&said).expect("one of them makes sense");
        assert_eq!((list.entries().len(), list.servers().len(), list.skipped()), (1, 1, bad.len()));
    }

    #[test]
    fn a_list_of_nobody_is_a_list() {
        assert_eq!(read_list(&[]).expect("a list").servers().len(), 0);
    }

    #[test]
    fn ipv6_is_read_too() {
        let list = read_list(&[Server::at("[2001:db8::1]:50051".parse().expect("an address"), "")]).expect("a list");
        assert_eq!(list.servers()[0].id(), "[2001:db8::1]:50051");
    }

    #[test]
    fn lists_differ_by_addresses_tokens_drops_and_order() {
        let lists = [
            vec![at(1, "a"), at(2, "a")],
            vec![at(2, "a"), at(1, "a")],
            vec![at(1, "a"), at(2, "b")],
            vec![at(1, "a"), at(2, "a"), at(2, "a")],
            vec![at(1, "a"), at(2, "a"), Server::dropping("a")],
            vec![],
        ];
        for (i, one) in lists.iter().enumerate() {
            for (j, other) in lists.iter().enumerate() {
                let (one, other) = (read_list(one).expect("a list"), read_list(other).expect("a list"));
                assert_eq!(one.same_as(&other), i == j, "{one} {other}");
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_a_balancer_says_is_read_or_skipped(
            said in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..20), any::<i32>(), "\\PC{0,60}", any::<bool>()), 0..20)
        ) {
            let server = |(ip_address, port, load_balance_token, drop)| Server { ip_address, port, load_balance_token, drop };
            let said: Vec<_> = said.into_iter().map(server).collect();
            if let Some(list) = read_list(&said) {
                prop_assert_eq!(list.entries().len() + list.skipped(), said.len());
                prop_assert!(list.servers().len() + list.drops() <= list.entries().len());
            }
        }
    }
}
