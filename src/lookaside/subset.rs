//! Chooses a subset of a list that is too long.

use std::hash::{DefaultHasher, Hash, Hasher};

use super::v1::Server;

/// A bound on the length of lists. The choice is drawn once for each channel. So it uses the same servers from list to
/// list, and a server that is added or removed changes at most one of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subset {
    most: usize,
    seed: u64,
}

impl Subset {
    /// Allows this many entries, with drop entries in proportion.
    pub(super) fn to(most: usize) -> Self {
        Self { most, seed: fastrand::u64(..) }
    }

    /// Cuts a list. None if it is not too long.
    pub(super) fn apply(self, said: &[Server]) -> Option<Vec<&Server>> {
        if said.len() <= self.most {
            return None;
        }
        let servers: Vec<_> = said.iter().filter(|server| !server.drop).collect();
        let drops = said.len() - servers.len();
        // Servers and drops share the places in proportion.
        let places = (self.most * servers.len()).div_ceil(said.len());
        let ranks: Vec<u64> = servers.iter().map(|server| self.rank(server)).collect();
        let mut different = ranks.clone();
        different.sort_unstable();
        different.dedup();
        // The first rank that is too much.
        let bound = different.get(places).copied();
        let chosen: Vec<_> = ranks.iter().map(|rank| bound.is_none_or(|bound| *rank < bound)).collect();
        let entries = chosen.iter().filter(|chosen| **chosen).count();
        // Servers with more entries than there are places are thinned evenly, so that the shares stay.
        let mut of_servers = Even::new(entries.min(places), entries);
        let kept_drops = (drops * entries.min(places)).checked_div(servers.len()).unwrap_or(self.most);
        let mut of_drops = Even::new(kept_drops, drops);
        let mut chosen = chosen.into_iter();
        let mut kept = |server: &Server| match server.drop {
            true => of_drops.next(),
            false => chosen.next().unwrap_or(false) && of_servers.next(),
        };
        Some(said.iter().filter(|server| kept(server)).collect())
    }

    fn rank(&self, server: &Server) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, &server.ip_address, server.port).hash(&mut hasher);
        hasher.finish()
    }
}

/// Chooses a number of items out of others, evenly.
struct Even {
    keep: usize,
    of: usize,
    owed: usize,
}

impl Even {
    fn new(keep: usize, of: usize) -> Self {
        Self { keep, of, owed: 0 }
    }

    fn next(&mut self) -> bool {
        self.owed += self.keep;
        let chosen = self.owed >= self.of;
        if chosen {
            self.owed -= self.of;
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn at(port: u16) -> Server {
        Server::at(([127, 0, 0, 1], port).into(), "")
    }

    fn ports(cut: Subset, said: &[Server]) -> BTreeSet<i32> {
        let kept = cut.apply(said).expect("it is too long");
        kept.into_iter().filter(|server| !server.drop).map(|server| server.port).collect()
    }

    #[test]
    fn a_list_that_is_short_enough_is_left_alone() {
        assert!(Subset::to(3).apply(&[at(1), at(2), Server::dropping("")]).is_none());
    }

    #[test]
    fn of_a_long_one_the_same_servers_are_used_whatever_comes_and_goes() {
        let cut = Subset::to(100);
        let said: Vec<_> = (1..=1_000).map(at).collect();
        let first = ports(cut, &said);
        assert_eq!(first.len(), 100);
        let reversed: Vec<_> = said.iter().rev().cloned().collect();
        assert_eq!(ports(cut, &reversed), first);
        let one_more: Vec<_> = said.iter().cloned().chain([at(2_000)]).collect();
        assert!(ports(cut, &one_more).symmetric_difference(&first).count() <= 2);
        assert_ne!(ports(Subset::to(100), &said), first, "each channel draws for itself");
    }

    #[test]
    fn the_share_of_drops_and_of_repetitions_stays() {
        let one = |index: u16| match index % 10 {
            0 => Server::dropping("busy"),
            1..=3 => at(1),
            _ => at(2),
        };
        let said: Vec<_> = (0..10_000).map(one).collect();
        let kept = Subset::to(1_000).apply(&said).expect("it is too long");
        let count = |port| kept.iter().filter(|server| server.port == port).count();
        assert_eq!((count(0), count(1), count(2)), (100, 300, 600));
    }

    #[test]
    fn a_list_of_drops_alone_is_cut_too() {
        let said = vec![Server::dropping(""); 1_000];
        assert_eq!(Subset::to(10).apply(&said).expect("it is too long").len(), 10);
    }
}
