//! One watch: blocking queries, one after the other.

use std::time::Duration;

use callboard_core::{Error, Result, Service, Snapshot, Snapshots};
use futures_util::{StreamExt, stream};
use tokio::time::sleep;

use crate::agent::{Agent, Query};
use crate::consul::at;
use crate::names::listed_name;
use crate::pace::{Index, Pace};
use crate::reported::snapshot;

/// While a query waits for a change, the agent is asked so often whether it is still there, and has so long to answer.
/// An agent that is stopped keeps its connections open, and a query would wait for its whole time in vain.
const ASK_EVERY: Duration = Duration::from_secs(2);
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

struct Watch {
    agent: Agent,
    query: Query,
    service: Service,
    index: Index,
    pace: Pace,
}

pub(crate) fn watch(agent: Agent, query: Query, service: &Service) -> Snapshots {
    let watch = Watch { agent, query, service: service.clone(), index: Index::default(), pace: Pace::new() };
    stream::try_unfold(watch, async |mut watch| {
        let set = watch.next().await.map_err(at(&watch.service))?;
        Ok(Some((set, watch)))
    })
    .boxed()
}

impl Watch {
    /// The next set that is news.
    async fn next(&mut self) -> Result<Snapshot> {
        let name = listed_name(&self.service);
        loop {
            self.pace.next().await;
            let (rows, index) = tokio::select! {
                answer = self.agent.listed(&name, &self.query, self.index) => answer?,
                error = silence(&self.agent) => return Err(error),
            };
            if self.index.note(index) {
                return Ok(snapshot(&self.service, &rows));
            }
        }
    }
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
