//! The agent's HTTP API, as far as it is needed.

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Error, ErrorKind, Result, aside};
use reqwest::{Method, StatusCode, Url};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::answer::{Answer, is_unreachable};
use crate::checks::millis;
use crate::entry::{Held, Registration, Row};
use crate::http::{Http, Options};
use crate::pace::Index;
use crate::reach::{Lookout, Reach};
use crate::turns::{Asker, SHORT, Turns, shared_out};

/// Every request but a blocking query and a pass.
const REQUEST: Duration = Duration::from_secs(4);
/// A pass: it takes the agent a millisecond or two.
const PASS: Duration = Duration::from_secs(2);
/// The question whether the agent is there.
const THERE: Duration = Duration::from_secs(3);
/// How long a request waits for an agent that is known to be away, and how long a watch does, which has no more to say
/// than its last error. All who wait go on at once when it is back.
const PATIENCE: Duration = Duration::from_secs(2);
const WATCHS_PATIENCE: Duration = Duration::from_secs(5);
/// How long the agent is asked to wait for an entry to change.
const LOOK: Duration = Duration::from_secs(60);

/// The agent, and the connections to it.
#[derive(Debug)]
pub(crate) struct Agent {
    http: Http,
    reach: Reach,
    /// Whether Consul's servers have a leader, without whom they answer only who asks them to be stale.
    led: Reach,
    /// For requests that are answered at once. An agent would not be faster with more of them.
    short: Semaphore,
    /// For queries that wait for news of a service, and of a config.
    pub(crate) sets: Arc<Turns>,
    pub(crate) configs: Arc<Turns>,
}

/// How long a list may be, in bytes, that is parsed among other work.
const MUCH: usize = 256 << 10;

/// What Consul lists under a name.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) rows: Vec<Row>,
    pub(crate) index: Option<u64>,
    /// Whether Consul says that there is more which the token may not see.
    pub(crate) filtered: bool,
}

/// The requests that concern one agent's own entries.
impl Agent {
    /// Keeps so many connections at most; some of them for configs, if those are wanted.
    pub(crate) fn new(http: Http, connections: usize, configs: bool) -> Self {
        let (sets, configs) = shared_out(connections, configs);
        Self { http, reach: Reach::new(), led: Reach::new(), short: Semaphore::new(SHORT), sets, configs }
    }

    /// Registers an entry, or replaces what is registered under its id. A check that is there already keeps its status,
    /// and one of another id stays as it is: an operator's maintenance, or another tool's check.
    pub(crate) async fn register(&self, entry: &Registration<'_>) -> Result<()> {
        let url = self.http.url(&["agent", "service", "register"], &[]);
        let body = serde_json::to_vec(entry).map_err(|error| Error::invalid("not JSON").with_source(error))?;
        self.in_turn(Method::PUT, url, Some(body), REQUEST).await?.good().map(drop)
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
    pub(crate) async fn held(&self, id: &str) -> Result<Option<Held>> {
        let url = self.http.url(&["agent", "health", "service", "id", id], &[]);
        let answer = self.in_turn(Method::GET, url, None, REQUEST).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            // The status says how the entry's checks stand; the body is the same. An agent that is in trouble itself
            // answers 503 without such a body, and one that grants no more connections answers 429.
            StatusCode::OK | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => answer
                .json()
                .map(Some)
                .map_err(|error| if answer.status.is_success() { error } else { answer.refusal() }),
            _ => Err(answer.refusal()),
        }
    }

    /// Waits until the entry of this id differs from what it was when it had this hash, or for a minute, and says what
    /// its hash is now: None if it is not there.
    pub(crate) async fn changed(&self, id: &str, hash: Option<&str>) -> Result<Option<String>> {
        let Some(hash) = hash else { return self.hash(id, &[], REQUEST).await };
        let options = [("hash", hash.to_owned()), ("wait", millis(LOOK))];
        self.hash(id, &options, LOOK + LOOK / 16 + REQUEST).await
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
        self.in_turn(Method::PUT, self.http.url(path, &[]), None, within).await
    }
}

/// The requests that concern what all servers know.
impl Agent {
    /// The entries that Consul lists under a name, as they are now or, if there is an index, once they differ from
    /// what they were then, or after `wait`.
    pub(crate) async fn listed(
        &self,
        name: &str,
        options: &Options,
        index: Index,
        wait: Duration,
        asker: &Asker,
    ) -> Result<Listing> {
        let answer = self.ask(&["health", "service", name], options, index, wait, asker).await?.good()?;
        let (index, filtered) = (answer.index, answer.filtered);
        let rows = aside(answer.body.len() > MUCH, move || answer.json()).await?;
        Ok(Listing { rows, index, filtered })
    }

    /// A query. With an index it is answered once there is a higher one, or after this wait or less; then it takes one
    /// of the asker's turns.
    pub(crate) async fn ask(
        &self,
        path: &[&str],
        options: &Options,
        index: Index,
        wait: Duration,
        asker: &Asker,
    ) -> Result<Answer> {
        self.there(WATCHS_PATIENCE).await?;
        self.led.there(WATCHS_PATIENCE, || self.is_led(options)).await?;
        let answer = if index.0 == 0 {
            self.in_turn(Method::GET, self.http.url(path, options), None, REQUEST).await?
        } else {
            self.ask_and_wait(path, options, index, wait, asker).await?
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
        asker: &Asker,
    ) -> Result<Answer> {
        let (turn, wait) = asker.turn(wait).await?;
        let mut options = options.clone();
        options.push(("index", index.0.to_string()));
        options.push(("wait", millis(wait)));
        // Consul adds up to a sixteenth, so that not everybody comes back at once.
        let within = wait + wait / 16 + Duration::from_secs(5);
        let answer = self.send(Method::GET, self.http.url(path, &options), None, within).await;
        turn.over();
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
        self.in_turn(method, self.http.url(path, options), body, REQUEST).await?.good().map(drop)
    }

    /// Whether the token may see the services of this name. None if the agent cannot say.
    pub(crate) async fn may_see(&self, name: &str, options: &Options) -> Result<Option<bool>> {
        let question = json!([{"Resource": "service", "Access": "read", "Segment": name}]);
        let url = self.http.url(&["internal", "acl", "authorize"], options);
        let answer = self.in_turn(Method::POST, url, Some(question.to_string().into_bytes()), REQUEST).await?;
        if !answer.status.is_success() {
            return Ok(None);
        }
        let said: serde_json::Value = answer.json()?;
        Ok(said[0]["Allow"].as_bool())
    }
}

/// How the agent is reached.
impl Agent {
    /// Looks out for the agent from now on.
    pub(crate) fn lookout(&self) -> Lookout {
        self.reach.lookout()
    }

    /// Waits until the agent cannot be reached any more, and says why. Cancel-safe.
    pub(crate) async fn gone(&self, lookout: &mut Lookout) -> Error {
        self.reach.gone(lookout, || self.is_there()).await
    }

    /// Whether the agent is there: any answer will do, and so will a connection that it closes. Needs no permission, and
    /// waits for no turn, because the others may be waiting for an agent that is silent.
    async fn is_there(&self) -> Result<()> {
        match self.http.send(Method::GET, self.http.url(&["status", "leader"], &[]), None, THERE).await {
            Err(error) if is_unreachable(&error) || error.kind() == ErrorKind::Timeout => Err(error),
            _ => Ok(()),
        }
    }

    /// Whether the servers that are asked with these options have a leader.
    async fn is_led(&self, options: &Options) -> Result<()> {
        let where_: Options = options.iter().filter(|(key, _)| *key == "dc").cloned().collect();
        let answer = self.in_turn(Method::GET, self.http.url(&["status", "leader"], &where_), None, REQUEST).await?;
        let nobody = || Error::new(ErrorKind::Unavailable, "Consul's servers have no leader");
        if *answer.good()?.body == *b"\"\"" { Err(nobody()) } else { Ok(()) }
    }

    /// Sends a request once there are few enough under way. The time for its answer begins then.
    async fn in_turn(&self, method: Method, url: Url, body: Option<Vec<u8>>, within: Duration) -> Result<Answer> {
        // Nobody has a turn while it waits for an agent that is away.
        self.there(PATIENCE).await?;
        // It is never closed, so there is always a turn.
        let _turn = self.short.acquire().await;
        self.send(method, url, body, within).await
    }

    /// Waits, for a while, for an agent that is known to be out of reach.
    async fn there(&self, patience: Duration) -> Result<()> {
        self.reach.there(patience, || self.is_there()).await
    }

    async fn send(&self, method: Method, url: Url, body: Option<Vec<u8>>, within: Duration) -> Result<Answer> {
        let said = self.http.send(method, url, body, within).await;
        match &said {
            Ok(_) => self.reach.heard(),
            // One connection that is not taken is no proof: all watches would begin anew.
            Err(error) if is_unreachable(error) => match self.is_there().await {
                Ok(()) => self.reach.heard(),
                Err(error) => self.reach.failed(&error),
            },
            Err(_) => {}
        }
        said
    }
}
