//! The session that everything of one client shares.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use callboard_core::{Error, Result};
use tokio::sync::Mutex;

use crate::session::Session;
use crate::settings::Settings;

/// Hands out one session to everybody: it is made when the first asks, made anew when it is over, and let go of when
/// the last lease and the last watch are.
#[derive(Debug)]
pub(crate) struct Sessions {
    pub(crate) settings: Settings,
    /// How many attempts to connect have ended.
    attempts: AtomicU64,
    current: Mutex<Current>,
}

#[derive(Debug, Default)]
struct Current {
    session: Weak<Session>,
    /// What the last attempt failed with.
    failure: Option<Error>,
}

impl Sessions {
    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings, attempts: AtomicU64::new(0), current: Mutex::default() }
    }

    /// The session. One attempt to connect serves everybody who waits for it.
    pub(crate) async fn session(&self) -> Result<Arc<Session>> {
        let before = self.attempts.load(Ordering::Relaxed);
        let mut current = self.current.lock().await;
        if let Some(session) = current.session.upgrade().filter(|session| !session.is_over()) {
            return Ok(session);
        }
        if self.attempts.load(Ordering::Relaxed) != before
            && let Some(error) = &current.failure
        {
            return Err(error.clone());
        }
        let connected = Session::connect(&self.settings).await.map(Arc::new);
        self.attempts.fetch_add(1, Ordering::Relaxed);
        current.failure = connected.as_ref().err().cloned();
        current.session = connected.as_ref().map_or_else(|_| Weak::new(), Arc::downgrade);
        connected
    }
}
