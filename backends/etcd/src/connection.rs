//! One client of etcd, shared by everything, and how it is asked.

use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use callboard_core::{Error, Result};
use etcd_client::{Client, ConnectOptions};
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};

use crate::failure::{failure, is_passing, silence, wants_login};

/// How often the connection is probed while nothing else is heard. etcd punishes probes that come more often than
/// every 5 s.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// How long a probe may stay without an answer.
const PROBE_ANSWER: Duration = Duration::from_secs(5);
/// How long it may take to connect to one member.
const CONNECT: Duration = Duration::from_secs(2);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How long all attempts of a call may take.
const CALL: Duration = Duration::from_secs(5);
/// The waits before further attempts. A call goes to any one of the members, so that with one of them dead another
/// attempt is most likely answered.
const AGAIN_AFTER: [Duration; 3] = [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(100)];

/// A client that is made when it is first needed, and made anew when there is doubt about it.
pub(crate) struct Connection {
    endpoints: Vec<String>,
    /// Holds the password: never printed.
    options: ConnectOptions,
    client: Mutex<Arc<OnceCell<Client>>>,
}

impl Connection {
    /// No I/O.
    pub(crate) fn new(endpoints: Vec<String>, options: ConnectOptions) -> Self {
        let options = options
            .with_keep_alive(PROBE_EVERY, PROBE_ANSWER)
            .with_keep_alive_while_idle(true)
            .with_connect_timeout(CONNECT)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        Self { endpoints, options, client: Mutex::default() }
    }

    /// Makes a call that may be made several times: quickly again if it fails in a way that may pass. `what` says for
    /// an error what it is for.
    pub(crate) async fn call<T, F>(&self, what: &str, ask: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let attempts = async {
            let mut waits = AGAIN_AFTER.into_iter();
            loop {
                match (self.attempt(what, &ask).await, waits.next()) {
                    (Err(error), Some(wait)) if is_passing(&error) => sleep(wait).await,
                    (outcome, _) => return outcome,
                }
            }
        };
        timeout(CALL, attempts).await.unwrap_or_else(|_| Err(silence(what)))
    }

    /// Makes a call once. A client that gives no answer is not used again: a new connection may have one.
    pub(crate) async fn attempt<T, F>(&self, what: &str, ask: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let cell = Arc::clone(&self.current());
        let answer = async {
            let client = cell.get_or_try_init(|| Client::connect(&self.endpoints, Some(self.options.clone()))).await?;
            ask(client.clone()).await
        };
        let answer = timeout(ATTEMPT, answer).await;
        let doubtful = match &answer {
            Ok(Ok(_)) => false,
            Ok(Err(error)) => wants_login(error),
            Err(_) => true,
        };
        if doubtful {
            self.replace(&cell);
        }
        match answer {
            Ok(answer) => answer.map_err(|error| failure(what, error)),
            Err(_) => Err(silence(what)),
        }
    }

    /// Gives up the present client: what is asked from now on goes over a new connection. Streams that are open stay.
    pub(crate) fn renew(&self) {
        *self.current() = Arc::default();
    }

    fn replace(&self, doubtful: &Arc<OnceCell<Client>>) {
        let mut current = self.current();
        if Arc::ptr_eq(&current, doubtful) {
            *current = Arc::default();
        }
    }

    fn current(&self) -> MutexGuard<'_, Arc<OnceCell<Client>>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

/// Marks an error as this backend's.
pub(crate) fn ours(error: Error) -> Error {
    error.in_backend("etcd")
}
