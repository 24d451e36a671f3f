//! One watch.

use std::future::ready;
use std::time::Duration;

use callboard_core::{Error, Result, Service, Snapshot, Snapshots};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tokio::time::sleep;

use crate::agent::{Agent, Query};
use crate::config::Config;
use crate::consul::at;
use crate::names::listed_name;
use crate::pace::{Index, Pace};
use crate::reported::snapshot;

/// While a query waits for a change, the agent is asked so often whether it is still there, and has so long to answer.
/// An agent that is stopped keeps its connections open, and a query would wait for its whole time in vain.
const ASK_EVERY: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// One watch: what is heard of the service and of its config, each by blocking queries of its own.
struct Watch {
    agent: Agent,
    service: Service,
    news: BoxStream<'static, Result<News>>,
    /// What has been heard of the two. There is nothing to tell before both are known.
    set: Option<Snapshot>,
    config: Option<Config>,
}

enum News {
    Set(Snapshot),
    Config(Config),
}

pub(crate) fn watch(agent: Agent, query: Query, service: &Service) -> Snapshots {
    let configs = match query.configs.clone() {
        Some(configs) => configs.changes(agent.clone(), service.clone(), query.wait).left_stream(),
        None => stream::once(ready(Ok(None))).chain(stream::pending()).right_stream(),
    };
    let sets = sets(agent.clone(), query, service.clone()).map_ok(News::Set);
    let news = stream::select(sets, configs.map_ok(News::Config)).boxed();
    let watch = Watch { agent, service: service.clone(), news, set: None, config: None };
    stream::try_unfold(watch, async |mut watch| {
        let set = watch.next().await.map_err(at(&watch.service))?;
        Ok(Some((set, watch)))
    })
    .boxed()
}

impl Watch {
    /// The next set that is news, or that has a config beside it which is.
    async fn next(&mut self) -> Result<Snapshot> {
        loop {
            tokio::select! {
                Some(news) = self.news.next() => match news? {
                    News::Set(set) => self.set = Some(set),
                    News::Config(config) => self.config = Some(config),
                },
                error = silence(&self.agent) => return Err(error),
            }
            if let (Some(set), Some(config)) = (&mut self.set, &self.config) {
                set.config.clone_from(config);
                return Ok(set.clone());
            }
        }
    }
}

/// The sets that are news: blocking queries, one after the other.
fn sets(agent: Agent, query: Query, service: Service) -> impl Stream<Item = Result<Snapshot>> + Send {
    let name = listed_name(&service);
    stream::try_unfold((Index::default(), Pace::new()), move |(mut index, mut pace)| {
        let (agent, query, service, name) = (agent.clone(), query.clone(), service.clone(), name.clone());
        async move {
            loop {
                pace.next().await;
                let (rows, said) = agent.listed(&name, &query, index).await?;
                if index.note(said) {
                    return Ok(Some((snapshot(&service, &rows), (index, pace))));
                }
            }
        }
    })
}

/// Waits until the agent does not answer.
async fn silence(agent: &Agent) -> Error {
    loop {
        sleep(ASK_EVERY).await;
        if let Err(error) = agent.answers(ANSWER_WITHIN).await {
            return error;
        }
    }
}
