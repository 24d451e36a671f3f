//! One watch: blocking queries, one after the other.

use std::time::Duration;

use callboard_core::{Error, ErrorKind, Result, Service, Snapshot, Snapshots};
use futures_util::{StreamExt, stream};
use tokio::time::sleep;

use crate::agent::{Agent, Query};
use crate::consul::at;
use crate::names::listed_name;
use crate::pace::{Index, Pace};
use crate::reported::snapshot;

/// While a query waits for a change, the agent is asked so often who leads, and has so long to answer. An agent that is
/// stopped keeps its connections open, and a query would wait for its whole time in vain. So would one that an agent
/// has passed on to a leader that is stopped: there the others elect a new one.
const ASK_EVERY: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

struct Watch {
    agent: Agent,
    query: Query,
    service: Service,
    index: Index,
    pace: Pace,
    /// Who led when it was asked last.
    leader: Option<String>,
}

pub(crate) fn watch(agent: Agent, query: Query, service: &Service) -> Snapshots {
    let watch =
        Watch { agent, query, service: service.clone(), index: Index::default(), pace: Pace::new(), leader: None };
    stream::try_unfold(watch, async |mut watch| {
        let set = watch.next().await.map_err(at(&watch.service))?;
        Ok(Some((set, watch)))
    })
    .boxed()
}

impl Watch {
    /// The next set that is news.
    async fn next(&mut self) -> Result<Snapshot> {
        let Self { agent, query, service, index, pace, leader } = self;
        let name = listed_name(service);
        loop {
            pace.next().await;
            let (rows, said) = tokio::select! {
                answer = agent.listed(&name, query, *index) => answer?,
                error = doubt(agent, leader) => return Err(error),
            };
            if index.note(said) {
                return Ok(snapshot(service, &rows));
            }
        }
    }
}

/// Waits until the agent does not answer, or there is another leader than before.
async fn doubt(agent: &Agent, leader: &mut Option<String>) -> Error {
    loop {
        sleep(ASK_EVERY).await;
        let now = match agent.leader(ANSWER_WITHIN).await {
            Ok(now) => now,
            Err(error) => return error,
        };
        let before = leader.replace(now);
        if before.is_some() && before != *leader {
            return Error::new(ErrorKind::Unavailable, "the servers have changed their leader");
        }
    }
}
