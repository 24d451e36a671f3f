//! How etcd is asked: by one client for each runtime, which everything in it shares.

mod access;
mod gate;
mod link;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Error, Result};
use etcd_client::Client;
use tokio::time::{sleep, timeout};

pub(crate) use self::access::Access;
pub(crate) use self::link::Link;

use self::link::Links;
use crate::failure::{failure, is_passing, silence, wants_login};

/// How long one attempt may take.
pub(crate) const ATTEMPT: Duration = Duration::from_secs(2);
/// How long all attempts of a call may take.
const CALL: Duration = Duration::from_secs(5);
/// The waits before further attempts. A call goes to any one of the members, so that with one of them dead another
/// attempt is most likely answered.
const AGAIN_AFTER: [Duration; 3] = [Duration::ZERO, Duration::from_millis(20), Duration::from_millis(100)];

/// Where etcd is, how it lets one in, and what each runtime has of it.
pub(crate) struct Connection {
    endpoints: Vec<String>,
    access: Access,
    links: Links,
}

impl Connection {
    /// No I/O.
    pub(crate) fn new(endpoints: Vec<String>, access: Access) -> Self {
        Self { endpoints, access, links: Links::default() }
    }

    /// What the runtime in which this is called has of etcd.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(crate) fn here(&self) -> Arc<Link> {
        self.links.here()
    }

    /// Makes a call that may be made several times: quickly again if it fails in a way that may pass. `what` says for
    /// an error what it is for. While etcd is out of reach, one call is made for all.
    pub(crate) async fn call<T, F>(&self, what: &str, ask: impl Fn(&Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let link = self.here();
        let attempts = async {
            let mut waits = AGAIN_AFTER.into_iter();
            loop {
                match (self.attempt(&link, ATTEMPT, what, &ask).await, waits.next()) {
                    (Err(error), Some(wait)) if is_passing(&error) => sleep(wait).await,
                    (Err(error), None) if is_passing(&error) => {
                        // What it was made of may have changed, such as files.
                        link.renew();
                        return Err(error);
                    }
                    (outcome, _) => return outcome,
                }
            }
        };
        // Apart from the future of who calls: what waits for something else holds no room for it.
        link.gate.pass(what, Box::pin(attempts)).await
    }

    /// Makes a call once, within this time if it is shorter than that of an attempt.
    pub(crate) async fn attempt_within<T, F>(
        &self,
        within: Duration,
        what: &str,
        ask: impl Fn(&Client) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        self.attempt(&self.here(), within.min(ATTEMPT), what, ask).await
    }

    /// A client that gives no answer is not used again: a new connection may have one.
    async fn attempt<T, F>(&self, link: &Link, within: Duration, what: &str, ask: impl Fn(&Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let client = link.client();
        let answer = async {
            let client = client.get_or_try_init(|| self.connect(what)).await?;
            Ok(ask(client).await)
        };
        let answer = timeout(within, answer).await;
        let doubtful = match &answer {
            Ok(Ok(Err(error))) => wants_login(error),
            Ok(_) => false,
            Err(_) => true,
        };
        if doubtful {
            link.replace(&client);
        }
        match answer {
            Ok(answer) => answer?.map_err(|error| self.failure(what, error)),
            Err(_) => Err(silence(what)),
        }
    }

    async fn connect(&self, what: &str) -> Result<Client> {
        let client = Client::connect(&self.endpoints, Some(self.access.options().await)).await;
        client.map_err(|error| self.failure(what, error))
    }

    fn failure(&self, what: &str, error: etcd_client::Error) -> Error {
        failure(what, error, self.access.tls.is_some())
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
