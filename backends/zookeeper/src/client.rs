//! How ZooKeeper is asked: over one session for each runtime, which everything in that runtime shares.

mod session;
mod settings;
mod supervision;
mod tls;
mod watcher;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as StdMutex, PoisonError, Weak};
use std::time::Duration;

use callboard_core::{Backoff, BackoffState, Error, Result};
use tokio::runtime::{self, Handle};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

pub(crate) use self::session::{Session, TRIES};
pub(crate) use self::settings::{LONGEST_SESSION, SHORTEST_SESSION, Secret, Settings};
pub(crate) use self::tls::check as check_tls;
pub(crate) use self::watcher::fired;

/// How long a runtime whose attempts to connect have failed is remembered although it asks for nothing.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Gives everything on one tokio runtime the same session. The tasks of a session end with the runtime that they are
/// on, so what runs on another runtime must not depend on them.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) settings: Settings,
    shared: StdMutex<HashMap<runtime::Id, Arc<Shared>>>,
}

/// The session of one runtime. It is made when it is first asked for, made anew when it is over, and dropped with the
/// last lease and the last watch.
#[derive(Debug)]
struct Shared {
    /// How many attempts to connect have ended.
    attempts: AtomicU64,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    session: Weak<Session>,
    /// What the last attempt failed with, and the moment before which there is no other.
    failure: Option<(Error, Instant)>,
    retry: BackoffState,
}

impl Client {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, shared: StdMutex::default() }
    }

    /// The session of this runtime.
    pub(crate) async fn session(&self) -> Result<Arc<Session>> {
        self.shared().session(&self.settings).await
    }

    /// What this runtime has. What ended runtimes have left is dropped.
    fn shared(&self) -> Arc<Shared> {
        let here = Handle::current().id();
        // Nothing in here panics half-way, so the map is whole even after a panic elsewhere.
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = shared.get(&here) {
            return Arc::clone(known);
        }
        shared.retain(|_, shared| Arc::strong_count(shared) > 1 || !shared.is_forgotten());
        Arc::clone(shared.entry(here).or_default())
    }
}

impl Default for Shared {
    fn default() -> Self {
        let current = Current { session: Weak::new(), failure: None, retry: BackoffState::new(Backoff::REGISTRY) };
        Self { attempts: AtomicU64::new(0), current: Mutex::new(current) }
    }
}

impl Shared {
    /// The session. One attempt to connect serves all who wait for it, and the attempts are as far apart as those of
    /// one caller, however many ask. A caller that finds the last attempt failed waits for the next.
    async fn session(&self, settings: &Settings) -> Result<Arc<Session>> {
        let before = self.attempts.load(Ordering::Relaxed);
        let mut current = self.current.lock().await;
        if let Some(session) = current.session.upgrade().filter(|session| !session.is_over()) {
            return Ok(session);
        }
        if let Some((error, not_before)) = &current.failure {
            if self.attempts.load(Ordering::Relaxed) != before {
                return Err(error.clone());
            }
            sleep_until(*not_before).await;
        }
        let connected = Session::connect(settings).await.map(Arc::new);
        self.attempts.fetch_add(1, Ordering::Relaxed);
        match &connected {
            Ok(session) => {
                (current.session, current.failure) = (Arc::downgrade(session), None);
                current.retry.succeeded();
            }
            Err(error) => {
                let not_before = Instant::now() + current.retry.failed();
                current.failure = Some((error.clone(), not_before));
            }
        }
        connected
    }

    /// Whether nothing is lost when this is dropped.
    fn is_forgotten(&self) -> bool {
        let Ok(current) = self.current.try_lock() else { return false };
        let long_ago = |not_before: &Instant| not_before.elapsed() > FORGOTTEN;
        current.session.strong_count() == 0 && current.failure.as_ref().is_none_or(|(_, at)| long_ago(at))
    }
}
