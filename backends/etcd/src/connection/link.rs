//! What one tokio runtime has of etcd.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use etcd_client::Client;
use tokio::runtime::{self, Handle};
use tokio::sync::{OnceCell, oneshot};

use super::gate::Gate;
use crate::feeds::Feeds;
use crate::keeper::Keeper;

/// A client whose connections, streams and tasks are all in one runtime.
#[derive(Default)]
pub(crate) struct Link {
    /// Made when it is first needed, and made anew when there is doubt about it.
    client: Mutex<Arc<OnceCell<Client>>>,
    pub(super) gate: Gate,
    pub(crate) feeds: Feeds,
    pub(crate) keeper: Keeper,
}

impl Link {
    /// The present client, which may be yet to be made.
    pub(super) fn client(&self) -> Arc<OnceCell<Client>> {
        Arc::clone(&self.current())
    }

    /// Gives up the present client: what is asked from now on goes over a new connection. Streams that are open stay.
    pub(crate) fn renew(&self) {
        *self.current() = Arc::default();
    }

    /// Gives up this client, unless that has been done.
    pub(super) fn replace(&self, doubtful: &Arc<OnceCell<Client>>) {
        let mut current = self.current();
        if Arc::ptr_eq(&current, doubtful) {
            *current = Arc::default();
        }
    }

    /// There is reason to doubt that etcd can be reached: a stream to it has broken.
    pub(crate) fn doubt(&self) {
        self.gate.doubt();
    }

    fn current(&self) -> MutexGuard<'_, Arc<OnceCell<Client>>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The links of all runtimes that have asked for etcd.
///
/// What one runtime has opened is of no use to another: it ends with its runtime, and stands still while nobody runs
/// that.
#[derive(Default)]
pub(super) struct Links(Mutex<Vec<Place>>);

struct Place {
    runtime: runtime::Id,
    link: Arc<Link>,
    /// A task waits for this to be dropped. It is gone when its runtime is.
    end: oneshot::Sender<()>,
}

impl Links {
    /// The link of the runtime in which this is called. Those of runtimes that have ended are let go of.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn here(&self) -> Arc<Link> {
        let (runtime, mut places) = (Handle::current().id(), self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(place) = places.iter().find(|place| place.runtime == runtime && !place.end.is_closed()) {
            return Arc::clone(&place.link);
        }
        places.retain(|place| !place.end.is_closed());
        let (end, ended) = oneshot::channel();
        tokio::spawn(async {
            let _ = ended.await;
        });
        let link = Arc::<Link>::default();
        places.push(Place { runtime, link: Arc::clone(&link), end });
        link
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn each_runtime_has_its_own_link_until_it_ends() {
        let links = Links::default();
        let runtime = || Builder::new_current_thread().build().expect("a runtime");
        let (first, second) = (runtime(), runtime());
        let here = |runtime: &tokio::runtime::Runtime| runtime.block_on(async { links.here() });
        let (of_first, of_second) = (here(&first), here(&second));
        assert!(!Arc::ptr_eq(&of_first, &of_second));
        assert!(Arc::ptr_eq(&of_first, &here(&first)));
        drop(first);
        assert!(Arc::ptr_eq(&of_second, &here(&second)));
        here(&runtime());
        assert_eq!(Arc::strong_count(&of_first), 1, "only this test knows of it");
        drop(links);
        second.block_on(tokio::task::yield_now());
        assert_eq!(second.metrics().num_alive_tasks(), 0, "no task is left behind");
    }
}
