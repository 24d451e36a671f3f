//! A service's config, in Consul's key/value store.

use std::collections::BTreeSet;
use std::future::ready;
use std::sync::{Arc, Mutex, PoisonError};

use callboard_core::{CONFIG_NAME, Error, Result, ServiceName};
use futures_util::{Stream, StreamExt, stream};
use reqwest::{Method, StatusCode};
use tokio::time::sleep;

use crate::agent::Agent;
use crate::consul::Inner;
use crate::http::Options;
use crate::pace::{Index, Pace};
use crate::turns::Asker;

/// A config, as it stands there.
pub(crate) type Config = Option<Arc<[u8]>>;

/// Where the configs of all services are.
#[derive(Debug)]
pub(crate) struct Configs {
    prefix: String,
    /// What is said when one is read, and when one is written.
    reading: Options,
    writing: Options,
    /// The keys of which it has been said that they may not be read.
    said: Mutex<BTreeSet<String>>,
}

impl Configs {
    /// `watching` is what is said when services are watched; what does not concern the store is left out.
    pub(crate) fn new(prefix: String, watching: &Options) -> Self {
        let only = |names: &[&str]| watching.iter().filter(|(name, _)| names.contains(name)).cloned().collect();
        let mut reading: Options = only(&["dc", "stale"]);
        // The value itself, and not JSON around it.
        reading.push(("raw", String::new()));
        Self { prefix, reading, writing: only(&["dc"]), said: Mutex::default() }
    }

    /// Where this service's is: `callboard/project/test/@config`.
    fn key(&self, service: &ServiceName) -> String {
        format!("{}/{service}/{CONFIG_NAME}", self.prefix)
    }

    /// Puts a service's config, or removes it.
    pub(crate) async fn put(&self, agent: &Agent, service: &ServiceName, config: Option<&str>) -> Result<()> {
        let (method, body) = match config {
            Some(config) => (Method::PUT, Some(config.as_bytes().to_vec())),
            None => (Method::DELETE, None),
        };
        agent.change(method, &path(&self.key(service)), &self.writing, body).await
    }

    /// Says, once for each, that a config may not be read.
    fn complain(&self, service: &ServiceName, key: &str, error: &Error) {
        // Nothing in there can be half done.
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.insert(key.to_owned()) {
            let error = error.chain();
            tracing::warn!(
                backend = "consul",
                %service,
                key,
                error,
                "the service's config cannot be read, and counts as none: give the token key:read, or set config to false"
            );
        }
    }
}

/// A service's config as it is, and then each time that it has changed. None, and no more, if nobody wants to know.
pub(crate) fn changes(consul: Arc<Inner>, service: ServiceName) -> impl Stream<Item = Result<Config>> + Send {
    let Some(configs) = &consul.query.configs else {
        return stream::once(ready(Ok(None))).chain(stream::pending()).right_stream();
    };
    let (configs, key, asker) = (Arc::clone(configs), configs.key(&service), consul.agent.configs.asker());
    let watch = Watch { consul, configs, service, key, asker, index: Index::default(), pace: Pace::new() };
    let changes = stream::try_unfold((watch, None), async |(mut watch, known)| {
        let config = watch.next(known.as_ref()).await?;
        Ok(Some((config.clone(), (watch, Some(config)))))
    });
    changes.left_stream()
}

struct Watch {
    consul: Arc<Inner>,
    configs: Arc<Configs>,
    service: ServiceName,
    key: String,
    asker: Asker,
    index: Index,
    pace: Pace,
}

/// What is heard of a config.
enum Heard {
    Config(Config, Option<u64>),
    /// This client is not let near it.
    Refusal(Error),
}

impl Watch {
    /// The next config that differs from the known one, if one is known.
    ///
    /// Who may not read it cannot know whether there is one. It counts as none, so that a service is found as before
    /// whose token is for services alone; but what was read before that is not thrown away.
    async fn next(&mut self, known: Option<&Config>) -> Result<Config> {
        loop {
            self.pace.next().await;
            match self.read().await? {
                Heard::Config(config, index) => {
                    if self.index.note(index) && known != Some(&config) {
                        return Ok(config);
                    }
                }
                Heard::Refusal(error) => {
                    self.configs.complain(&self.service, &self.key, &error);
                    if known.is_none() {
                        return Ok(None);
                    }
                    sleep(self.consul.query.wait).await;
                }
            }
        }
    }

    async fn read(&self) -> Result<Heard> {
        let Inner { agent, query, .. } = &*self.consul;
        let path = path(&self.key);
        let answer = agent.ask(&path, &self.configs.reading, self.index, query.wait, &self.asker).await?;
        Ok(match answer.status {
            StatusCode::NOT_FOUND if answer.index.is_some() => Heard::Config(None, answer.index),
            StatusCode::TOO_MANY_REQUESTS => return Err(answer.refusal()),
            // Without the right, where the agent is set to block the store, or behind a proxy that does not know it.
            status if status.is_client_error() => Heard::Refusal(answer.refusal()),
            _ => {
                let answer = answer.good()?;
                Heard::Config(Some(Arc::from(&*answer.body)), answer.index)
            }
        })
    }
}

fn path(key: &str) -> Vec<&str> {
    ["kv"].into_iter().chain(key.split('/')).collect()
}
