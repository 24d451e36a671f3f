//! The agent's HTTP API, as far as it is needed.

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Error, ErrorKind, Result};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Method, StatusCode, Url, redirect};
use serde::Deserialize;
use tokio::sync::Semaphore;

use crate::answer::{Answer, unanswered};
use crate::config::Configs;
use crate::entry::{Registration, Row, ServiceRow};
use crate::pace::Index;
use crate::url::Place;

/// A local agent takes a connection at once, or not at all.
const CONNECT: Duration = Duration::from_secs(2);
/// Every request but a blocking query and a pass.
const REQUEST: Duration = Duration::from_secs(4);
/// A pass: it takes the agent a millisecond or two.
const PASS: Duration = Duration::from_secs(2);
/// How long the agent is asked to wait for an entry to change.
const LOOK: Duration = Duration::from_secs(60);
/// How many requests are under way at once, blocking queries apart. An agent closes what one client opens beyond 200
/// connections, and would not be faster with more.
const AT_ONCE: usize = 16;
/// A connection that has not been used for so long is closed. It is longer than the time between two passes.
const IDLE: Duration = Duration::from_secs(30);

/// What stands in the query of a URL.
pub(crate) type Options = Vec<(&'static str, String)>;

/// The agent. Clones share its connections.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    http: Client,
    base: Url,
    /// Namespace and partition, if they are set.
    scope: Options,
    turns: Arc<Semaphore>,
}

/// What a watch asks for.
#[derive(Clone, Debug)]
pub(crate) struct Query {
    /// Everything but `index` and `wait`.
    pub(crate) options: Options,
    pub(crate) wait: Duration,
    /// None if nobody wants to know of a config.
    pub(crate) configs: Option<Configs>,
}

/// An entry as its agent holds it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Held {
    pub(crate) service: ServiceRow,
    checks: Option<Vec<HeldCheck>>,
}

#[derive(Debug, Deserialize)]
struct HeldCheck {
    #[serde(rename = "CheckID")]
    id: String,
}

impl Held {
    pub(crate) fn has_check(&self, id: &str) -> bool {
        self.checks.iter().flatten().any(|check| check.id == id)
    }
}

impl Agent {
    pub(crate) fn new(
        place: Place,
        token: Option<HeaderValue>,
        tls: tokio_rustls::rustls::ClientConfig,
        scope: Options,
    ) -> Result<Self> {
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            headers.insert("X-Consul-Token", token);
        }
        let mut http = Client::builder()
            .default_headers(headers)
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .tls_backend_preconfigured(tls);
        let base = match place {
            Place::Url(url) => url,
            #[cfg(unix)]
            Place::Socket(path) => {
                http = http.unix_socket(path);
                Url::parse("http://localhost").map_err(|error| Error::invalid("address").with_source(error))?
            }
            #[cfg(not(unix))]
            Place::Socket(_) => return Err(Error::invalid("address: this system has no Unix sockets")),
        };
        let http = http.build().map_err(|error| Error::invalid("the HTTP client cannot be made").with_source(error))?;
        Ok(Self { http, base, scope, turns: Arc::new(Semaphore::new(AT_ONCE)) })
    }

    /// Registers an entry, or replaces what is registered under its id, with all its checks. A check that is there
    /// already keeps its status.
    pub(crate) async fn register(&self, entry: &Registration<'_>) -> Result<()> {
        let url = self.url(&["agent", "service", "register"], &[("replace-existing-checks", "true".into())]);
        let body = serde_json::to_vec(entry).map_err(|error| Error::invalid("not JSON").with_source(error))?;
        self.in_turn(Method::PUT, url, Some(body), REQUEST).await?.good().map(drop)
    }

    /// Removes an entry. One that is gone already is no error.
    pub(crate) async fn deregister(&self, id: &str) -> Result<()> {
        let answer = self.put(&["agent", "service", "deregister", id], REQUEST).await?;
        if answer.status == StatusCode::NOT_FOUND { Ok(()) } else { answer.good().map(drop) }
    }

    /// The entry of this id on this agent.
    pub(crate) async fn held(&self, id: &str) -> Result<Option<Held>> {
        let url = self.url(&["agent", "health", "service", "id", id], &[]);
        let answer = self.in_turn(Method::GET, url, None, REQUEST).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            // The status says how the entry's checks stand; the body is the same. An agent that is in trouble itself
            // answers 503 without such a body.
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
        let options = [("hash", hash.to_owned()), ("wait", crate::checks::millis(LOOK))];
        self.hash(id, &options, LOOK + LOOK / 16 + REQUEST).await
    }

    async fn hash(&self, id: &str, options: &[(&'static str, String)], within: Duration) -> Result<Option<String>> {
        let url = self.url(&["agent", "service", id], options);
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

    /// The entries that Consul lists under a name, as they are now or, if there is an index, once they differ from
    /// what they were then, or after the query's wait.
    pub(crate) async fn listed(&self, name: &str, query: &Query, index: Index) -> Result<(Vec<Row>, Option<u64>)> {
        let answer = self.ask(&["health", "service", name], &query.options, index, query.wait).await?.good()?;
        Ok((answer.json()?, answer.index))
    }

    /// A blocking query: with an index it is answered once there is a higher one, or after this wait.
    pub(crate) async fn ask(&self, path: &[&str], options: &Options, index: Index, wait: Duration) -> Result<Answer> {
        let mut options = options.clone();
        let mut bound = REQUEST;
        if index.0 > 0 {
            options.push(("index", index.0.to_string()));
            options.push(("wait", crate::checks::millis(wait)));
            // Consul adds up to a sixteenth, so that not everybody comes back at once.
            bound = wait + wait / 16 + Duration::from_secs(5);
        }
        self.send(Method::GET, self.url(path, &options), None, bound).await
    }

    /// A request that changes what Consul's servers store.
    pub(crate) async fn change(
        &self,
        method: Method,
        path: &[&str],
        options: &Options,
        body: Option<Vec<u8>>,
    ) -> Result<()> {
        self.in_turn(method, self.url(path, options), body, REQUEST).await?.good().map(drop)
    }

    /// Whether the agent is there: any answer will do. Needs no permission, and waits for no turn, because the others
    /// may be waiting for an agent that is silent.
    pub(crate) async fn answers(&self, within: Duration) -> Result<()> {
        let url = self.url(&["status", "leader"], &[]);
        self.send(Method::GET, url, None, within).await.map(drop)
    }

    async fn put(&self, path: &[&str], within: Duration) -> Result<Answer> {
        self.in_turn(Method::PUT, self.url(path, &[]), None, within).await
    }

    fn url(&self, path: &[&str], options: &[(&'static str, String)]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        let pairs = options.iter().chain(&self.scope);
        if !options.is_empty() || !self.scope.is_empty() {
            url.query_pairs_mut().extend_pairs(pairs.map(|(key, value)| (*key, value.as_str())));
        }
        url
    }

    /// Sends a request once there are few enough under way. The time for its answer begins then.
    async fn in_turn(&self, method: Method, url: Url, body: Option<Vec<u8>>, within: Duration) -> Result<Answer> {
        // It is never closed, so there is always a turn.
        let _turn = self.turns.acquire().await;
        self.send(method, url, body, within).await
    }

    /// A body is JSON.
    async fn send(&self, method: Method, url: Url, body: Option<Vec<u8>>, within: Duration) -> Result<Answer> {
        let mut request = self.http.request(method, url).timeout(within);
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body);
        }
        let response = request.send().await.map_err(unanswered)?;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let index = header("X-Consul-Index").and_then(|index| index.parse().ok());
        let hash = header("X-Consul-ContentHash").map(ToOwned::to_owned);
        let status = response.status();
        Ok(Answer { status, index, hash, body: response.bytes().await.map_err(unanswered)? })
    }
}
