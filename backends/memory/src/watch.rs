//! The sets of a service, as a stream.

use callboard_core::{ServiceName, Snapshots};
use futures_util::{StreamExt, stream};

use crate::store::SharedStore;

/// The sets of a service, until a fault ends the watch or the store is dropped.
pub(crate) fn watch(store: &SharedStore, service: &ServiceName) -> Snapshots {
    let (mut store, service) = (store.subscribe(), service.clone());
    store.mark_changed(); // so that the first item is the set as it is
    let opened = store.borrow().faults.outages.len();
    stream::try_unfold((store, service), move |(mut store, service)| async move {
        while store.changed().await.is_ok() {
            let set = store.borrow_and_update().snapshot(&service, opened)?;
            if let Some(set) = set {
                return Ok(Some((set, (store, service))));
            }
        }
        Ok(None)
    })
    .boxed()
}
