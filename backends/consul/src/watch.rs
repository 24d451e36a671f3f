//! Watching a service: its instances and its config, each by blocking queries of its own.

mod empty_list;
mod snapshot;

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Result, ServiceName, Snapshot, Snapshots, aside};
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};

use self::empty_list::{EmptyList, Lister};
pub(crate) use self::snapshot::snapshot;
use crate::client::{Agent, Index, Options, Outages, Querier, RateLimit};
use crate::config::{self, Config, Configs};
use crate::error::at;
use crate::record::listed_name;

/// What all watches of one client share.
#[derive(Debug)]
pub(crate) struct Watches {
    pub(crate) agent: Arc<Agent>,
    /// The options of a query for a service, but `index` and `wait`.
    pub(crate) options: Options,
    /// How long one blocking query waits, at most.
    pub(crate) wait: Duration,
    /// None if configs are turned off.
    pub(crate) configs: Option<Arc<Configs>>,
}

/// One watch.
struct Watch {
    agent: Arc<Agent>,
    service: ServiceName,
    changes: BoxStream<'static, Result<Change>>,
    outages: Outages,
    /// The latest of the two. The first snapshot is yielded when both are known.
    set: Option<Snapshot>,
    config: Option<Config>,
}

enum Change {
    Set(Snapshot),
    Config(Config),
}

/// The snapshots of a service, until something fails.
pub(crate) fn watch(watches: &Arc<Watches>, service: &ServiceName) -> Snapshots {
    let sets = sets(Arc::clone(watches), service.clone()).map_ok(Change::Set);
    let configs = config::changes(watches.configs.as_ref(), service.clone()).map_ok(Change::Config);
    let (agent, changes) = (Arc::clone(&watches.agent), stream::select(sets, configs).boxed());
    let outages = agent.outages();
    let watch = Watch { agent, service: service.clone(), changes, outages, set: None, config: None };
    stream::try_unfold(watch, async |mut watch| {
        let set = watch.next().await.map_err(at(&watch.service))?;
        Ok(Some((set, watch)))
    })
    .boxed()
}

impl Watch {
    /// The next set that is new, or that has a new config beside it.
    async fn next(&mut self) -> Result<Snapshot> {
        loop {
            tokio::select! {
                // A watch that is about to end does not begin to ask whether the agent is there.
                biased;
                Some(change) = self.changes.next() => match change? {
                    Change::Set(set) => self.set = Some(set),
                    Change::Config(config) => self.config = Some(config),
                },
                error = self.agent.gone(&mut self.outages) => return Err(error),
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
    watches: Arc<Watches>,
    service: ServiceName,
    name: String,
    querier: Querier,
    index: Index,
    limit: RateLimit,
    empty: EmptyList,
}

/// The sets that are new.
fn sets(watches: Arc<Watches>, service: ServiceName) -> impl Stream<Item = Result<Snapshot>> + Send {
    let (name, querier) = (listed_name(&service), watches.agent.sets.querier());
    let (index, limit, empty) = (Index::default(), RateLimit::new(), EmptyList::default());
    let sets = Sets { watches, service, name, querier, index, limit, empty };
    stream::try_unfold(sets, async |mut sets| {
        let set = sets.next().await?;
        Ok(Some((set, sets)))
    })
}

/// More entries than this take too long to be read on a thread that has other work.
const MANY: usize = 1_000;

impl Sets {
    async fn next(&mut self) -> Result<Snapshot> {
        let Watches { agent, options, wait, .. } = &*self.watches;
        loop {
            self.limit.next().await;
            let listing = agent.listed(&self.name, options, self.index, *wait, &self.querier).await?;
            let Self { empty, name, querier, index, .. } = self;
            empty.check(&listing, *index, &Lister { agent, options, wait: *wait, name, querier }).await?;
            if self.index.note(listing.index) {
                let (service, rows) = (self.service.clone(), listing.rows);
                return Ok(aside(rows.len() > MANY, move || snapshot(&service, &rows)).await);
            }
        }
    }
}
