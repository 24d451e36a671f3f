//! The network between the members of a cluster, which can be cut.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use callboard_raw::{Mode, Port, Proxy};

use crate::owner;

/// A proxy for each way from a member to another. A member is reached by all others at one address; behind that, who
/// calls decides which of the proxies takes the connection.
#[derive(Debug)]
pub(crate) struct Links {
    /// Where a member is reached.
    doors: Vec<Proxy>,
    ways: Arc<Vec<Way>>,
    /// The members' processes; 0 while there is none.
    processes: Arc<Vec<AtomicU32>>,
}

#[derive(Debug)]
struct Way {
    from: usize,
    to: usize,
    proxy: Proxy,
}

impl Links {
    /// Links members that listen at these addresses.
    pub(crate) fn new(members: &[SocketAddr]) -> io::Result<Self> {
        let mut ways = Vec::new();
        for from in 0..members.len() {
            for (to, target) in members.iter().copied().enumerate().filter(|(to, _)| *to != from) {
                ways.push(Way { from, to, proxy: Proxy::switch(Port::free()?, move |_| Some(target))? });
            }
        }
        let ways = Arc::new(ways);
        let processes: Arc<Vec<_>> = Arc::new(members.iter().map(|_| AtomicU32::new(0)).collect());
        let door = |to: usize| {
            let port = Port::free()?;
            let (door, ways, processes) = (port.address(), Arc::clone(&ways), Arc::clone(&processes));
            // Whoever is no member, or is not known yet, is turned away; members come again.
            Proxy::switch(port, move |caller| {
                let ids: Vec<_> = processes.iter().map(|id| id.load(Ordering::Acquire)).collect();
                let from = owner::of(caller, door, &ids)?;
                ways.iter().find(|way| way.from == from && way.to == to).map(|way| way.proxy.address())
            })
        };
        let doors = (0..members.len()).map(door).collect::<io::Result<_>>()?;
        Ok(Self { doors, ways, processes })
    }

    /// Where the others reach a member.
    pub(crate) fn address(&self, member: usize) -> SocketAddr {
        self.doors[member].address()
    }

    /// The member runs in this process now.
    pub(crate) fn runs_in(&self, member: usize, process: u32) {
        self.processes[member].store(process, Ordering::Release);
    }

    /// Does this on all ways from and to a member.
    pub(crate) async fn set(&self, member: usize, mode: Mode) {
        for way in self.ways.iter().filter(|way| way.from == member || way.to == member) {
            way.proxy.set(mode).await;
        }
    }
}
