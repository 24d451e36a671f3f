//! A service's config, in Consul's key/value store.

use std::collections::BTreeSet;
use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use callboard_core::{CONFIG_NAME, Error, Result, ServiceName};
use futures_util::{Stream, StreamExt, stream};
use reqwest::{Method, StatusCode};
use tokio::time::sleep;

use crate::client::{Agent, Index, Options, Querier, RateLimit};
use crate::error::BACKEND;

/// A config, as it is stored. None if there is none.
pub(crate) type Config = Option<Arc<[u8]>>;

/// The configs of all services.
#[derive(Debug)]
pub(crate) struct Configs {
    agent: Arc<Agent>,
    prefix: String,
    /// How long one blocking query waits, at most.
    wait: Duration,
    /// The options of a request that reads one, and of a request that writes one.
    reading: Options,
    writing: Options,
    /// The keys for which it has been logged that they may not be read.
    logged: Mutex<BTreeSet<String>>,
}

impl Configs {
    /// `watching` are the options by which services are watched. Those that do not concern the store are left out.
    pub(crate) fn new(agent: Arc<Agent>, prefix: String, wait: Duration, watching: &Options) -> Self {
        let only = |names: &[&str]| watching.iter().filter(|(name, _)| names.contains(name)).cloned().collect();
        let mut reading: Options = only(&["dc", "stale"]);
        // The value itself, and not JSON around it.
        reading.push(("raw", String::new()));
        Self { agent, prefix, wait, reading, writing: only(&["dc"]), logged: Mutex::default() }
    }

    /// The key of this service's config: `callboard/project/test/@config`.
    fn key(&self, service: &ServiceName) -> String {
        format!("{}/{service}/{CONFIG_NAME}", self.prefix)
    }

    /// Puts a service's config, or removes it.
    pub(crate) async fn put(&self, service: &ServiceName, config: Option<&str>) -> Result<()> {
        let (method, body) = match config {
            Some(config) => (Method::PUT, Some(config.as_bytes().to_vec())),
            None => (Method::DELETE, None),
        };
        self.agent.change(method, &path(&self.key(service)), &self.writing, body).await
    }

    /// Logs, once for each, that a config may not be read.
    fn log_refusal(&self, service: &ServiceName, key: &str, error: &Error) {
        // A set with one key more or less is a set, so a poisoned lock can be used.
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.insert(key.to_owned()) {
            let error = error.chain();
            tracing::warn!(
                backend = BACKEND,
                %service,
                key,
                error,
                "the service's config cannot be read, and counts as none: give the token key:read, or set config to false"
            );
        }
    }
}

/// A service's config as it is, and then each time that it has changed. Without configs, None and no more.
pub(crate) fn changes(
    configs: Option<&Arc<Configs>>,
    service: ServiceName,
) -> impl Stream<Item = Result<Config>> + Send + use<> {
    let Some(configs) = configs else {
        return stream::once(ready(Ok(None))).chain(stream::pending()).right_stream();
    };
    let (key, querier) = (configs.key(&service), configs.agent.configs.querier());
    let (configs, index, limit) = (Arc::clone(configs), Index::default(), RateLimit::new());
    let watch = ConfigWatch { configs, service, key, querier, index, limit };
    let changes = stream::try_unfold((watch, None), async |(mut watch, known)| {
        let config = watch.next(known.as_ref()).await?;
        Ok(Some((config.clone(), (watch, Some(config)))))
    });
    changes.left_stream()
}

struct ConfigWatch {
    configs: Arc<Configs>,
    service: ServiceName,
    key: String,
    querier: Querier,
    index: Index,
    limit: RateLimit,
}

/// What the agent answers about a config.
enum Answered {
    Config(Config, Option<u64>),
    /// This client may not read it.
    Refusal(Error),
}

impl ConfigWatch {
    /// The next config that differs from the known one, if one is known.
    ///
    /// A client that may not read it cannot know whether there is one. It counts as none, so that a token that is for
    /// services alone finds them as before. But a config that was read before that is kept.
    async fn next(&mut self, known: Option<&Config>) -> Result<Config> {
        loop {
            self.limit.next().await;
            match self.read().await? {
                Answered::Config(config, index) => {
                    if self.index.note(index) && known != Some(&config) {
                        return Ok(config);
                    }
                }
                Answered::Refusal(error) => {
                    self.configs.log_refusal(&self.service, &self.key, &error);
                    if known.is_none() {
                        return Ok(None);
                    }
                    sleep(self.configs.wait).await;
                }
            }
        }
    }

    async fn read(&self) -> Result<Answered> {
        let Configs { agent, reading, wait, .. } = &*self.configs;
        let answer = agent.ask(&path(&self.key), reading, self.index, *wait, &self.querier).await?;
        Ok(match answer.status {
            StatusCode::NOT_FOUND if answer.index.is_some() => Answered::Config(None, answer.index),
            StatusCode::TOO_MANY_REQUESTS => return Err(answer.refusal()),
            // The token lacks the right, or the agent is set to block the store, or a proxy does not know it.
            status if status.is_client_error() => Answered::Refusal(answer.refusal()),
            _ => {
                let answer = answer.good()?;
                Answered::Config(Some(Arc::from(&*answer.body)), answer.index)
            }
        })
    }
}

fn path(key: &str) -> Vec<&str> {
    ["kv"].into_iter().chain(key.split('/')).collect()
}
