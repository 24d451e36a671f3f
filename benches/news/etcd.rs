//! etcd by itself: the same client library, without callboard.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use etcd_client::{Client, PutOptions, WatchOptions, WatchStream};

use crate::Result;

/// A watch of a prefix, and a client that writes there.
pub(crate) struct Watch {
    writer: Client,
    events: WatchStream,
}

const PREFIX: &str = "/news/";

impl Watch {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let writer = Client::connect([address.to_string()], None).await?;
        let mut reader = Client::connect([address.to_string()], None).await?;
        let mut events = reader.watch(PREFIX, Some(WatchOptions::new().with_prefix())).await?;
        events.message().await?.filter(etcd_client::WatchResponse::created).ok_or("etcd has not begun to watch")?;
        Ok(Self { writer, events })
    }

    pub(crate) async fn put(&mut self, round: usize) -> Result<Duration> {
        let start = Instant::now();
        self.write_and_hear(format!("put {round}"), None, start).await
    }

    pub(crate) async fn grant_and_put(&mut self, round: usize) -> Result<Duration> {
        let start = Instant::now();
        let lease = self.writer.lease_grant(15, None).await?.id();
        self.write_and_hear(format!("grant {round}"), Some(PutOptions::new().with_lease(lease)), start).await
    }

    async fn write_and_hear(&mut self, value: String, options: Option<PutOptions>, start: Instant) -> Result<Duration> {
        self.writer.put(format!("{PREFIX}key"), value.clone(), options).await?;
        loop {
            let message = self.events.message().await?.ok_or("etcd has ended the watch")?;
            let heard = |event: &etcd_client::Event| event.kv().is_some_and(|kv| kv.value() == value.as_bytes());
            if message.events().iter().any(heard) {
                return Ok(start.elapsed());
            }
        }
    }
}
