//! A channel whose servers are within the process.

use std::sync::Arc;
use std::time::Duration;

use callboard::backend::Memory;
use callboard::{Address, Channel, ChannelBuilder, ServiceName};
use tokio::io::DuplexStream;
use tokio::runtime::{Builder, Handle};
use tokio::time::sleep;

/// What a pipe holds that nobody reads.
const PIPE: usize = 64 << 10;

/// How long the tasks of a channel may go on that nobody holds any more.
const PATIENCE: Duration = Duration::from_secs(60);

/// A board with one service.
pub struct Stage {
    pub board: Memory,
    pub service: ServiceName,
}

/// Does some work with a clock that moves when nothing else does, and with jitter that is always the same.
pub fn paused<T>(work: impl Future<Output = T>) -> T {
    fastrand::seed(7);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(work)
}

impl Stage {
    /// An empty one.
    pub fn new() -> Self {
        Self { board: Memory::default(), service: "project/test".parse().expect("a name") }
    }

    /// Signs in what is at an address.
    pub fn sign_in(&self, id: &str, address: &str, kind: &str) {
        let record = format!(r#"{{"v":1,"id":"{id}","address":"{address}","kind":"{kind}"}}"#);
        self.board.put(&self.service, id, Some(record.as_bytes()));
    }

    /// A channel to these servers: `serve` is given the other end of each connection.
    pub fn builder<S>(&self, serve: impl Fn(Address, DuplexStream) -> S + Send + Sync + 'static) -> ChannelBuilder
    where
        S: Future<Output = ()> + Send + 'static,
    {
        let serve = Arc::new(serve);
        let connector = tower::service_fn(move |address: Address| {
            let (near, far) = tokio::io::duplex(PIPE);
            tokio::spawn(serve(address, far));
            std::future::ready(Ok::<_, std::io::Error>(near))
        });
        Channel::builder(self.service.clone()).resolver(self.board.clone()).connector(connector)
    }

    /// Lets a channel go, and waits until none of its tasks is there any more, nor a server's.
    pub async fn end(self, channel: Channel) {
        drop((channel, self));
        let until = tokio::time::Instant::now() + PATIENCE;
        while tokio::time::Instant::now() < until {
            if Handle::current().metrics().num_alive_tasks() == 0 {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        let left = Handle::current().metrics().num_alive_tasks();
        panic!("{left} tasks are left {PATIENCE:?} after the channel was dropped");
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}
