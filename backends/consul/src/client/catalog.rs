//! The requests that concern what Consul's servers store: the catalog, and the key/value store.

use std::time::Duration;

use callboard_core::{Result, aside};
use reqwest::Method;
use serde_json::json;

use super::agent::{Agent, REQUEST};
use super::answer::Answer;
use super::http::Options;
use super::index::Index;
use super::query_slots::Querier;
use crate::record::{ListedEntry, millis};

/// How long a watch waits for an agent that is known to be out of reach: longer than a request does, because a watch
/// has no more to report than its last error.
const WATCHS_PATIENCE: Duration = Duration::from_secs(5);

/// A list of more bytes than this is parsed beside the runtime's own threads.
const MUCH: usize = 256 << 10;

/// What Consul lists under a name.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) rows: Vec<ListedEntry>,
    pub(crate) index: Option<u64>,
    /// Whether Consul has left out entries that the token may not see.
    pub(crate) filtered: bool,
}

impl Agent {
    /// The entries that Consul lists under a name, as they are now or, if there is an index, once they differ from
    /// what they were then, or after `wait`.
    pub(crate) async fn listed(
        &self,
        name: &str,
        options: &Options,
        index: Index,
        wait: Duration,
        querier: &Querier,
    ) -> Result<Listing> {
        let answer = self.ask(&["health", "service", name], options, index, wait, querier).await?.good()?;
        let (index, filtered) = (answer.index, answer.filtered);
        let rows = aside(answer.body.len() > MUCH, move || answer.json()).await?;
        Ok(Listing { rows, index, filtered })
    }

    /// A query. With an index it is answered once there is a higher one, or after this wait or less. Such a query takes
    /// a slot of the querier.
    pub(crate) async fn ask(
        &self,
        path: &[&str],
        options: &Options,
        index: Index,
        wait: Duration,
        querier: &Querier,
    ) -> Result<Answer> {
        self.there(WATCHS_PATIENCE).await?;
        self.led.there(WATCHS_PATIENCE, || self.is_led(options)).await?;
        let answer = if index.0 == 0 {
            self.request(Method::GET, self.http.url(path, options), None, REQUEST).await?
        } else {
            self.ask_and_wait(path, options, index, wait, querier).await?
        };
        if answer.lacks_a_leader() {
            self.led.failed(&answer.refusal());
        }
        Ok(answer)
    }

    async fn ask_and_wait(
        &self,
        path: &[&str],
        options: &Options,
        index: Index,
        wait: Duration,
        querier: &Querier,
    ) -> Result<Answer> {
        let (slot, wait) = querier.slot(wait).await?;
        let mut options = options.clone();
        options.push(("index", index.0.to_string()));
        options.push(("wait", millis(wait)));
        // Consul adds up to a sixteenth, so that not all clients ask again at once.
        let within = wait + wait / 16 + Duration::from_secs(5);
        let answer = self.send(Method::GET, self.http.url(path, &options), None, within).await;
        slot.free();
        answer
    }

    /// A request that changes what Consul's servers store.
    pub(crate) async fn change(
        &self,
        method: Method,
        path: &[&str],
        options: &Options,
        body: Option<Vec<u8>>,
    ) -> Result<()> {
        self.request(method, self.http.url(path, options), body, REQUEST).await?.good().map(drop)
    }

    /// Whether the token may see the services of this name. None if the agent cannot say.
    pub(crate) async fn may_see(&self, name: &str, options: &Options) -> Result<Option<bool>> {
        let question = json!([{"Resource": "service", "Access": "read", "Segment": name}]);
        let url = self.http.url(&["internal", "acl", "authorize"], options);
        let answer = self.request(Method::POST, url, Some(question.to_string().into_bytes()), REQUEST).await?;
        if !answer.status.is_success() {
            return Ok(None);
        }
        let allowed: serde_json::Value = answer.json()?;
        Ok(allowed[0]["Allow"].as_bool())
    }
}
