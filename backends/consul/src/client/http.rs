//! One request to the agent, by HTTP.

use std::time::Duration;

use bytes::Bytes;
use callboard_core::{Error, ErrorKind, RegistryTls, Result};
use reqwest::header::HeaderValue;
use reqwest::{Method, Response, Url};

use super::address::AgentAddress;
use super::answer::Answer;
use super::connections::Connections;
use crate::error::unanswered;

/// The options of a request: the query of its URL.
pub(crate) type Options = Vec<(&'static str, String)>;

/// Requests to one agent.
#[derive(Debug)]
pub(crate) struct Http {
    base: Url,
    /// Namespace and partition, if they are set.
    scope: Options,
    connections: Connections,
}

impl Http {
    pub(crate) fn new(
        address: AgentAddress,
        token: Option<HeaderValue>,
        tls: Option<RegistryTls>,
        scope: Options,
    ) -> Result<Self> {
        let encrypted = address.is_encrypted();
        let (base, socket) = match address {
            AgentAddress::Url(url) => (url, None),
            AgentAddress::Socket(_) if cfg!(not(unix)) => {
                return Err(Error::invalid("address: this system has no Unix sockets"));
            }
            AgentAddress::Socket(path) => {
                let base = Url::parse("http://localhost").map_err(|error| Error::invalid("address").with_source(error));
                (base?, Some(path))
            }
        };
        Ok(Self { base, scope, connections: Connections::new(token, socket, tls, encrypted)? })
    }

    pub(crate) fn url(&self, path: &[&str], options: &[(&'static str, String)]) -> Url {
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

    /// Sends a request. A body is JSON.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: Url,
        body: Option<Vec<u8>>,
        within: Duration,
    ) -> Result<Answer> {
        let answer = self.try_send(method, url, body, within).await;
        if answer.as_ref().is_err_and(|error| error.kind() != ErrorKind::Timeout) {
            self.connections.read_tls_again();
        }
        answer
    }

    async fn try_send(&self, method: Method, url: Url, body: Option<Vec<u8>>, within: Duration) -> Result<Answer> {
        let mut request = self.connections.client().await?.request(method, url).timeout(within);
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body);
        }
        let response = request.send().await.map_err(unanswered)?;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        let index = header("X-Consul-Index").and_then(|index| index.parse().ok());
        let hash = header("X-Consul-ContentHash").map(ToOwned::to_owned);
        let filtered = header("X-Consul-Results-Filtered-By-ACLs") == Some("true");
        let status = response.status();
        Ok(Answer { status, index, hash, filtered, body: whole(response).await? })
    }
}

/// How long an answer may be, in bytes: enough for some 300,000 entries.
const LONGEST: usize = 256 << 20;

async fn whole(mut response: Response) -> Result<Bytes> {
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(unanswered)? {
        if body.len() + part.len() > LONGEST {
            let why = format!("the agent's answer is longer than {} MiB", LONGEST >> 20);
            return Err(Error::new(ErrorKind::Unavailable, why));
        }
        body.extend_from_slice(&part);
    }
    Ok(body.into())
}
