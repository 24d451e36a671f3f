//! The agent: whether it can be reached, and how a request is sent to it.

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Error, ErrorKind, Result};
use reqwest::{Method, Url};
use tokio::sync::Semaphore;

use super::answer::Answer;
use super::http::{Http, Options};
use super::query_slots::{QuerySlots, SHORT, shared_out};
use super::reach::{Outages, Reach};
use crate::error::is_unreachable;

/// The time limit of a request that is neither a blocking query nor a pass.
pub(super) const REQUEST: Duration = Duration::from_secs(4);
/// The time limit of the question whether the agent is there.
const THERE: Duration = Duration::from_secs(3);
/// How long a request waits for an agent that is known to be out of reach. All that wait go on at once when it is back.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// The agent, and the connections to it.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(super) http: Http,
    reach: Reach,
    /// Whether Consul's servers have a leader. Without one they answer stale queries only.
    pub(super) led: Reach,
    /// For requests that are answered at once. More of them would not make an agent faster.
    short: Semaphore,
    /// For blocking queries for a service, and for a config.
    pub(crate) sets: Arc<QuerySlots>,
    pub(crate) configs: Arc<QuerySlots>,
}

impl Agent {
    /// Keeps at most this many connections. Some of them are for configs, if those are wanted.
    pub(crate) fn new(http: Http, connections: usize, configs: bool) -> Self {
        let (sets, configs) = shared_out(connections, configs);
        Self { http, reach: Reach::new(), led: Reach::new(), short: Semaphore::new(SHORT), sets, configs }
    }

    /// Outages of the agent that begin from now on.
    pub(crate) fn outages(&self) -> Outages {
        self.reach.outages()
    }

    /// Waits until the agent cannot be reached any more, and returns why. Cancel-safe.
    pub(crate) async fn gone(&self, outages: &mut Outages) -> Error {
        self.reach.gone(outages, || self.is_there()).await
    }

    /// Whether the agent is there. Any answer counts, and so does a connection that it closes. This needs no permission,
    /// and it does not wait for other requests, because those may be waiting for an agent that does not answer.
    async fn is_there(&self) -> Result<()> {
        match self.http.send(Method::GET, self.http.url(&["status", "leader"], &[]), None, THERE).await {
            Err(error) if is_unreachable(&error) || error.kind() == ErrorKind::Timeout => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether the servers that are asked with these options have a leader.
    pub(super) async fn is_led(&self, options: &Options) -> Result<()> {
        let where_: Options = options.iter().filter(|(key, _)| *key == "dc").cloned().collect();
        let answer = self.request(Method::GET, self.http.url(&["status", "leader"], &where_), None, REQUEST).await?;
        let no_leader = || Error::new(ErrorKind::Unavailable, "Consul's servers have no leader");
        if *answer.good()?.body == *b"\"\"" { Err(no_leader()) } else { Ok(()) }
    }

    /// Sends a request once few enough are under way. Its time limit begins then.
    pub(super) async fn request(
        &self,
        method: Method,
        url: Url,
        body: Option<Vec<u8>>,
        within: Duration,
    ) -> Result<Answer> {
        // A request that waits for an agent out of reach holds no permit.
        self.there(PATIENCE).await?;
        // The semaphore is never closed, so there is always a permit.
        let _permit = self.short.acquire().await;
        self.send(method, url, body, within).await
    }

    /// Waits, for a while, for an agent that is known to be out of reach.
    pub(super) async fn there(&self, patience: Duration) -> Result<()> {
        self.reach.there(patience, || self.is_there()).await
    }

    pub(super) async fn send(
        &self,
        method: Method,
        url: Url,
        body: Option<Vec<u8>>,
        within: Duration,
    ) -> Result<Answer> {
        let answer = self.http.send(method, url, body, within).await;
        match &answer {
            Ok(_) => self.reach.answered(),
            // One connection that fails is no proof, and all watches would start over.
            Err(error) if is_unreachable(error) => match self.is_there().await {
                Ok(()) => self.reach.answered(),
                Err(error) => self.reach.failed(&error),
            },
            Err(_) => {}
        }
        answer
    }
}
