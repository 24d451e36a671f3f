//! The network between the members of a cluster, which can be cut.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use callboard_raw::{Mode, Port, Proxy};
use tokio::runtime::{Builder, Runtime};

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
    /// Everything here runs in a thread of its own: a network does not stand still while a test computes.
    thread: Option<Runtime>,
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
        let thread = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let entered = thread.enter();
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
        drop(entered);
        Ok(Self { doors, ways, processes, thread: Some(thread) })
    }

    /// Where the others reach a member.
    pub(crate) fn address(&self, member: usize) -> SocketAddr {
        self.doors[member].address()
    }

    /// The member runs in this process now.
    pub(crate) async fn up(&self, member: usize, process: u32) {
        self.processes[member].store(process, Ordering::Release);
        self.doors[member].set(Mode::Pass).await;
    }

    /// The member does not run: whoever calls is refused, as by the system.
    pub(crate) async fn down(&self, member: usize) {
        self.processes[member].store(0, Ordering::Release);
        self.doors[member].set(Mode::Refuse).await;
    }

    /// Does this on all ways from and to a member.
    pub(crate) async fn set(&self, member: usize, mode: Mode) {
        for way in self.ways.iter().filter(|way| way.from == member || way.to == member) {
            way.proxy.set(mode).await;
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // To wait for it is not allowed where futures run; its end is near.
            thread.shutdown_background();
        }
    }
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::*;

    /// A member that sends one byte to whoever comes.
    async fn member() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                socket.write_all(b"m").await.unwrap();
            }
        });
        address
    }

    /// Long enough for a byte that comes, and for one that does not.
    const COMES: Duration = Duration::from_secs(30);
    const DOES_NOT: Duration = Duration::from_millis(500);

    /// What comes from the second member within that time, if this process is the first one.
    async fn hears(links: &Links, within: Duration) -> Option<u8> {
        let mut socket = TcpStream::connect(links.address(1)).await.unwrap();
        timeout(within, socket.read_u8()).await.ok()?.ok()
    }

    #[tokio::test]
    async fn a_cut_member_neither_hears_nor_is_heard() {
        let links = Links::new(&[member().await, member().await]).unwrap();
        assert_eq!(hears(&links, DOES_NOT).await, None, "a stranger is let in");
        links.up(0, std::process::id()).await;
        assert_eq!(hears(&links, COMES).await, Some(b'm'));
        for cut in [0, 1] {
            links.set(cut, Mode::BlackHole).await;
            assert_eq!(hears(&links, DOES_NOT).await, None);
            links.set(cut, Mode::Pass).await;
            assert_eq!(hears(&links, COMES).await, Some(b'm'));
        }
        links.down(1).await;
        let error = TcpStream::connect(links.address(1)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        links.up(1, 0).await;
        assert_eq!(hears(&links, COMES).await, Some(b'm'));
    }
}
