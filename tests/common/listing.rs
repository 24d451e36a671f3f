//! A resolver that yields the sets that a test wants, without registered instances.

use std::sync::Arc;
use std::time::Duration;

use callboard::{Instance, Resolver, ServiceName, Snapshot, Snapshots};
use futures_util::{StreamExt, stream};
use tokio::time::sleep;

/// Yields one set, or several in turn.
#[derive(Clone, Debug)]
pub struct Listing {
    sets: Vec<Vec<Arc<Instance>>>,
    every: Duration,
}

impl Listing {
    pub fn new(set: impl IntoIterator<Item = Instance>) -> Self {
        Self::by_turns(Duration::MAX, [set.into_iter().collect()])
    }

    /// Yields the next set after each interval, and the first one again after the last.
    pub fn by_turns(every: Duration, sets: impl IntoIterator<Item = Vec<Instance>>) -> Self {
        let sets = sets.into_iter().map(|set| set.into_iter().map(Arc::new).collect());
        Self { sets: sets.collect(), every }
    }
}

impl Resolver for Listing {
    fn watch(&self, _: &ServiceName) -> Snapshots {
        let Self { sets, every } = self.clone();
        let said = stream::unfold(0, move |turn| {
            let set = sets[turn % sets.len()].clone();
            async move {
                if turn > 0 {
                    sleep(every).await;
                }
                Some((Ok(Snapshot::new(set)), turn + 1))
            }
        });
        said.boxed()
    }
}
