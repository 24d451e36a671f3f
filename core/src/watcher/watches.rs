//! One watch after another, for ever.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{BackoffState, Error, ErrorKind, Resolver, Result, ServiceName, Snapshot, Snapshots, later};

/// Watches a service, and again whenever a watch fails, after the backoff's wait.
pub(super) struct Watches {
    resolver: Arc<dyn Resolver>,
    service: ServiceName,
    first_snapshot: Duration,
    retry: BackoffState,
    watch: Option<Watch>,
    not_before: Instant,
}

struct Watch {
    stream: Snapshots,
    first_by: Instant,
    /// When the first set came.
    heard: Option<Instant>,
}

impl Watches {
    pub(super) fn new(
        resolver: Arc<dyn Resolver>,
        service: ServiceName,
        first_snapshot: Duration,
        retry: BackoffState,
    ) -> Self {
        Self { resolver, service, first_snapshot, retry, watch: None, not_before: Instant::now() }
    }

    /// The next set or error. After an error the watch is gone and the next call opens another.
    ///
    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Snapshot> {
        if self.watch.is_none() {
            until(self.not_before).await;
        }
        let watch = self.watch.get_or_insert_with(|| Watch {
            stream: self.resolver.watch(&self.service),
            first_by: later(Instant::now(), self.first_snapshot),
            heard: None,
        });
        let said = watch.next().await;
        match &said {
            Ok(_) => drop(watch.heard.get_or_insert_with(Instant::now)),
            Err(error) => {
                if let Some(heard) = watch.heard {
                    self.retry.lasted(heard.elapsed());
                }
                self.watch = None;
                self.not_before = later(Instant::now(), self.retry.after(error));
            }
        }
        said
    }
}

impl Watch {
    async fn next(&mut self) -> Result<Snapshot> {
        let said = poll_fn(|context| self.stream.as_mut().poll_next(context));
        let said = match self.heard {
            Some(_) => said.await,
            None => timeout_at(self.first_by, said).await.unwrap_or_else(|_| {
                Some(Err(Error::new(ErrorKind::Timeout, "the watch did not yield a first set in time")))
            }),
        };
        said.unwrap_or_else(|| Err(Error::new(ErrorKind::Unavailable, "the watch has ended")))
    }
}

/// Waits for a moment. Does not yield if it has passed, as a timer would.
pub(super) async fn until(moment: Instant) {
    if Instant::now() < moment {
        sleep_until(moment).await;
    }
}
