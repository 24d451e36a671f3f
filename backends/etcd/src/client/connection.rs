//! The connection of one runtime: calls, their bounds and their retries.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use callboard_core::{Backoff, BackoffState, Error, Result};
use etcd_client::Client;
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};

use super::gate::Gate;
use super::options::Options;
use crate::error::{from_client, is_passing, timed_out, wants_login};

/// How long one attempt may take.
pub(super) const ATTEMPT: Duration = Duration::from_secs(2);
/// How many more attempts a call makes. A call goes to any of the members, so with one of them dead another attempt is
/// most likely answered.
const RETRIES: u32 = 3;

/// A client whose connections, streams and tasks are all in one runtime.
pub(super) struct Connection {
    options: Arc<Options>,
    /// Connected when it is first needed, and replaced when it may be broken.
    client: Mutex<Arc<OnceCell<Client>>>,
    gate: Gate,
}

impl Connection {
    /// No I/O.
    pub(super) fn new(options: Arc<Options>) -> Self {
        Self { options, client: Mutex::default(), gate: Gate::default() }
    }

    /// Makes a call through the gate, with retries. See [`Client::call`](super::Client::call).
    pub(super) async fn call<T, F>(&self, what: &str, ask: impl Fn(&Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        // The future of the attempts is boxed, so that a caller that waits for something else reserves no room for it.
        self.gate.pass(what, Box::pin(self.attempts(what, ask))).await
    }

    async fn attempts<T, F>(&self, what: &str, ask: impl Fn(&Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let mut retry = BackoffState::immediate_first(Backoff::OTHER_MEMBER);
        loop {
            match self.attempt(ATTEMPT, what, &ask).await {
                Err(error) if is_passing(&error) && retry.failures() == RETRIES => {
                    // What the client was made of may have changed, such as files.
                    self.renew();
                    return Err(error);
                }
                Err(error) if is_passing(&error) => sleep(retry.failed()).await,
                outcome => return outcome,
            }
        }
    }

    /// Makes a call once, within this time if it is shorter than that of an attempt.
    pub(super) async fn attempt_within<T, F>(
        &self,
        within: Duration,
        what: &str,
        ask: impl Fn(&Client) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        self.attempt(within.min(ATTEMPT), what, ask).await
    }

    /// A client that gives no answer is not used again, because a new connection may have one.
    async fn attempt<T, F>(&self, within: Duration, what: &str, ask: impl Fn(&Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let client = Arc::clone(&self.current());
        let answer = async {
            let client = client.get_or_try_init(|| self.connect(what)).await?;
            Ok(ask(client).await)
        };
        let answer = timeout(within, answer).await;
        let may_be_broken = match &answer {
            Ok(Ok(Err(error))) => wants_login(error),
            Ok(_) => false,
            Err(_) => true,
        };
        if may_be_broken {
            self.replace(&client);
        }
        match answer {
            Ok(answer) => answer?.map_err(|error| self.error(what, error)),
            Err(_) => Err(timed_out(what)),
        }
    }

    async fn connect(&self, what: &str) -> Result<Client> {
        let client = Client::connect(&self.options.endpoints, Some(self.options.connect_options().await)).await;
        client.map_err(|error| self.error(what, error))
    }

    fn error(&self, what: &str, error: etcd_client::Error) -> Error {
        from_client(what, error, self.options.tls.is_some())
    }

    /// Gives up the present client: later calls use a new connection. Streams that are open stay.
    pub(super) fn renew(&self) {
        *self.current() = Arc::default();
    }

    /// Gives up this client, unless that has been done.
    fn replace(&self, broken: &Arc<OnceCell<Client>>) {
        let mut current = self.current();
        if Arc::ptr_eq(&current, broken) {
            *current = Arc::default();
        }
    }

    /// Notes that etcd may be out of reach: a stream to it has broken.
    pub(super) fn suspect(&self) {
        self.gate.suspect();
    }

    fn current(&self) -> MutexGuard<'_, Arc<OnceCell<Client>>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
