//! The client's side: the nodes of a service, as a stream of complete sets.

mod nodes;

use std::sync::Arc;

use callboard_core::{Result, ServiceName, Snapshot, Snapshots};
use futures_util::{StreamExt, stream};

use self::nodes::Nodes;
use crate::client::Client;
use crate::record;

/// The sets of a service, until something fails.
pub(crate) fn watch(client: Arc<Client>, service: ServiceName) -> Snapshots {
    let watch = Watch { client, service, nodes: None };
    stream::try_unfold(watch, |mut watch| async move {
        let snapshot = watch.next().await.map_err(|error| error.for_service(&watch.service))?;
        Ok(Some((snapshot, watch)))
    })
    .boxed()
}

struct Watch {
    client: Arc<Client>,
    service: ServiceName,
    /// None before the first set.
    nodes: Option<Nodes>,
}

impl Watch {
    async fn next(&mut self) -> Result<Snapshot> {
        let directory = record::directory(&self.client.settings.prefix, &self.service)?;
        let nodes = match self.nodes.take() {
            Some(mut nodes) => {
                nodes.change().await?;
                nodes
            }
            None => Nodes::open(self.client.session().await?, directory).await?,
        };
        Ok(self.nodes.insert(nodes).snapshot().await)
    }
}
