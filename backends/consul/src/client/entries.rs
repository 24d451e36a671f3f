//! The requests that concern one agent's own entries.

use std::time::Duration;

use callboard_core::{Error, ErrorKind, Result};
use reqwest::{Method, StatusCode};

use super::agent::{Agent, PATIENCE, REQUEST};
use super::answer::Answer;
use crate::record::{Entry, HeldEntry, millis};

/// The time limit of a pass, which takes the agent a millisecond or two.
const PASS: Duration = Duration::from_secs(2);
/// How long the agent is asked to wait for an entry to change.
const ENTRY_WAIT: Duration = Duration::from_secs(60);

impl Agent {
    /// Registers an entry, or replaces what is registered under its id. A check that is there already keeps its status,
    /// and one of another id stays as it is: an operator's maintenance, or another tool's check.
    pub(crate) async fn register(&self, entry: &Entry<'_>) -> Result<()> {
        let url = self.http.url(&["agent", "service", "register"], &[]);
        let body = serde_json::to_vec(entry).map_err(|error| Error::invalid("not JSON").with_source(error))?;
        self.request(Method::PUT, url, Some(body), REQUEST).await?.good().map(drop)
    }

    /// Removes an entry. One that is gone already is no error.
    pub(crate) async fn deregister(&self, id: &str) -> Result<()> {
        self.removed(&["agent", "service", "deregister", id]).await
    }

    /// Removes a check. One that is gone already is no error.
    pub(crate) async fn remove_check(&self, id: &str) -> Result<()> {
        self.removed(&["agent", "check", "deregister", id]).await
    }

    async fn removed(&self, path: &[&str]) -> Result<()> {
        let answer = self.put(path, REQUEST).await?;
        if answer.status == StatusCode::NOT_FOUND { Ok(()) } else { answer.good().map(drop) }
    }

    /// The entry of this id on this agent.
    pub(crate) async fn held(&self, id: &str) -> Result<Option<HeldEntry>> {
        let url = self.http.url(&["agent", "health", "service", "id", id], &[]);
        let answer = self.request(Method::GET, url, None, REQUEST).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            // The status tells the state of the entry's checks; the body is the same. An agent that is in trouble itself
            // answers 503 without such a body, and one that grants no more connections answers 429.
            StatusCode::OK | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => answer
                .json()
                .map(Some)
                .map_err(|error| if answer.status.is_success() { error } else { answer.refusal() }),
            _ => Err(answer.refusal()),
        }
    }

    /// Waits until the entry of this id differs from what it was when it had this hash, or for a minute, and returns
    /// its hash: None if it is not there.
    pub(crate) async fn changed(&self, id: &str, hash: Option<&str>) -> Result<Option<String>> {
        let Some(hash) = hash else { return self.hash(id, &[], REQUEST).await };
        let options = [("hash", hash.to_owned()), ("wait", millis(ENTRY_WAIT))];
        self.hash(id, &options, ENTRY_WAIT + ENTRY_WAIT / 16 + REQUEST).await
    }

    async fn hash(&self, id: &str, options: &[(&'static str, String)], within: Duration) -> Result<Option<String>> {
        let url = self.http.url(&["agent", "service", id], options);
        self.there(PATIENCE).await?;
        let answer = self.send(Method::GET, url, None, within).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let none = || Error::new(ErrorKind::Unsupported, "the agent does not say when an entry changes");
        answer.good()?.hash.map(Some).ok_or_else(none)
    }

    /// Passes a TTL check. False if the agent has no such check.
    pub(crate) async fn pass(&self, check: &str) -> Result<bool> {
        let answer = self.put(&["agent", "check", "pass", check], PASS).await?;
        // Old agents answer 500, and say so in words.
        let unknown = |text: &[u8]| {
            let text = String::from_utf8_lossy(text);
            text.contains("does not have associated TTL") || text.contains("Unknown check")
        };
        match answer.status {
            StatusCode::NOT_FOUND => Ok(false),
            StatusCode::INTERNAL_SERVER_ERROR if unknown(&answer.body) => Ok(false),
            _ => answer.good().map(|_| true),
        }
    }

    async fn put(&self, path: &[&str], within: Duration) -> Result<Answer> {
        self.request(Method::PUT, self.http.url(path, &[]), None, within).await
    }
}
