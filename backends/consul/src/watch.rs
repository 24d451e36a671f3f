//! One watch.

use std::sync::Arc;

use callboard_core::{Result, ServiceName, Snapshot, Snapshots, aside};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};

use crate::config::{Config, changes};
use crate::consul::{Inner, at};
use crate::doubt::Doubt;
use crate::names::listed_name;
use crate::pace::{Index, Pace};
use crate::reach::Lookout;
use crate::reported::snapshot;
use crate::turns::Asker;

/// One watch: what is heard of the service and of its config, each by blocking queries of its own.
struct Watch {
    consul: Arc<Inner>,
    service: ServiceName,
    news: BoxStream<'static, Result<News>>,
    lookout: Lookout,
    /// What has been heard of the two. There is nothing to tell before both are known.
    set: Option<Snapshot>,
    config: Option<Config>,
}

enum News {
    Set(Snapshot),
    Config(Config),
}

pub(crate) fn watch(consul: Arc<Inner>, service: &ServiceName) -> Snapshots {
    let sets = sets(Arc::clone(&consul), service.clone()).map_ok(News::Set);
    let configs = changes(Arc::clone(&consul), service.clone()).map_ok(News::Config);
    let (news, lookout) = (stream::select(sets, configs).boxed(), consul.agent.lookout());
    let watch = Watch { consul, service: service.clone(), news, lookout, set: None, config: None };
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
                // A watch that is about to end does not begin to ask whether the agent is there.
                biased;
                Some(news) = self.news.next() => match news? {
                    News::Set(set) => self.set = Some(set),
                    News::Config(config) => self.config = Some(config),
                },
                error = self.consul.agent.gone(&mut self.lookout) => return Err(error),
            }
            if let (Some(set), Some(config)) = (&mut self.set, &self.config) {
                set.config.clone_from(config);
                return Ok(set.clone());
            }
        }
    }
}

/// Blocking queries for the sets, one after the other.
struct Sets {
    consul: Arc<Inner>,
    service: ServiceName,
    name: String,
    asker: Asker,
    index: Index,
    pace: Pace,
    doubt: Doubt,
}

/// The sets that are news.
fn sets(consul: Arc<Inner>, service: ServiceName) -> impl Stream<Item = Result<Snapshot>> + Send {
    let (name, asker) = (listed_name(&service), consul.agent.sets.asker());
    let (index, pace, doubt) = (Index::default(), Pace::new(), Doubt::default());
    let sets = Sets { consul, service, name, asker, index, pace, doubt };
    stream::try_unfold(sets, async |mut sets| {
        let set = sets.next().await?;
        Ok(Some((set, sets)))
    })
}

/// With how many entries it takes too long to read them among other work.
const MANY: usize = 1_000;

impl Sets {
    async fn next(&mut self) -> Result<Snapshot> {
        let Inner { agent, query, .. } = &*self.consul;
        loop {
            self.pace.next().await;
            let (consul, name, index, asker) = (&self.consul, &self.name, self.index, &self.asker);
            let said = agent.listed(name, &query.options, index, query.wait, asker).await?;
            self.doubt.settled(&said, index, consul, name, asker).await?;
            if self.index.note(said.index) {
                let (service, rows) = (self.service.clone(), said.rows);
                return Ok(aside(rows.len() > MANY, move || snapshot(&service, &rows)).await);
            }
        }
    }
}
