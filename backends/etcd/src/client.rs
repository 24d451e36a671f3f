//! How etcd is called: by one client for each runtime, which everything in that runtime shares.

mod connection;
mod events;
mod gate;
mod keepalive;
mod options;
mod position;
mod runtimes;
mod shared_task;
mod tls;
mod watches;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use callboard_core::Result;
use etcd_client::proto::{PbKeyValue, PbRangeResponse};
use etcd_client::{GetOptions, WatchOptions};
use tokio::time::Instant;

pub(crate) use self::events::Events;
pub(crate) use self::keepalive::{KeptAlive, check_ttl};
pub(crate) use self::options::Options;
pub(crate) use self::position::Position;
pub(crate) use self::watches::LARGEST_ANSWER;

use self::connection::Connection;
use self::keepalive::KeepAlive;
use self::runtimes::PerRuntime;
use self::watches::Watches;

/// The client of one [`Etcd`](crate::Etcd) and its clones.
pub(crate) struct Client {
    options: Arc<Options>,
    runtimes: PerRuntime<Shared>,
}

/// What everything in one runtime shares.
struct Shared {
    connection: Arc<Connection>,
    keep_alive: KeepAlive,
    watches: Watches,
}

impl Client {
    /// No I/O.
    pub(crate) fn new(options: Options) -> Self {
        Self { options: Arc::new(options), runtimes: PerRuntime::default() }
    }

    /// What the runtime of the caller shares.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    fn here(&self) -> Arc<Shared> {
        self.runtimes.here(|| Shared {
            connection: Arc::new(Connection::new(Arc::clone(&self.options))),
            keep_alive: KeepAlive::default(),
            watches: Watches::default(),
        })
    }

    /// Makes a call that may be made several times: at once again if it fails in a way that may pass. `what` says for
    /// an error what it is for. While etcd is out of reach, one call is made for all.
    pub(crate) async fn call<T, F>(&self, what: &str, ask: impl Fn(&etcd_client::Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        self.here().connection.call(what, ask).await
    }

    /// What is stored under a key, and as of when.
    pub(crate) async fn read(&self, key: &str) -> Result<(Option<PbKeyValue>, Position)> {
        let mut answer = self.get("read the entry", key.as_bytes(), &GetOptions::new()).await?;
        Ok((answer.kvs.pop(), Position::of_range(&answer)?))
    }

    /// What is stored under a key, or under the keys that the options say.
    pub(crate) async fn get(&self, what: &str, key: &[u8], options: &GetOptions) -> Result<PbRangeResponse> {
        self.call(what, |etcd| {
            let (key, options) = (key.to_vec(), options.clone());
            let mut kv = etcd.kv_client().max_decoding_message_size(LARGEST_ANSWER);
            async move { kv.get(key, Some(options)).await.map(|answer| answer.0) }
        })
        .await
    }

    /// Opens a watch on a key, or on the range from it to `end`, for all events after this position.
    ///
    /// # Errors
    /// Those of [`Events::open`].
    pub(crate) async fn events(&self, key: &str, end: Option<String>, after: Position) -> Result<Events> {
        let one = WatchOptions::new().with_start_revision(after.revision + 1).with_progress_notify();
        let options = end.map_or(one.clone(), |end| one.with_range(end));
        let answers = {
            let Shared { connection, watches, .. } = &*self.here();
            watches.begin(connection, key, options)
        };
        Events::open(answers, after).await
    }

    /// Keeps alive a lease that was requested at `requested`.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn keep_alive(&self, lease: i64, ttl: Duration, requested: Instant) -> KeptAlive {
        let Shared { connection, keep_alive, .. } = &*self.here();
        keep_alive.keep(connection, lease, ttl, requested)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoints", &self.options.endpoints).finish_non_exhaustive()
    }
}
