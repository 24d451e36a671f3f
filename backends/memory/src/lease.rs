//! The claim on one entry.

use std::sync::Arc;

use async_trait::async_trait;
use callboard_core::{Error, ErrorKind, Incarnation, Instance, Lease, Record, Result, ServiceName, conflict, encode};

use crate::record::{BACKEND, Entry, Key};
use crate::store::{SharedStore, Store};

#[derive(Debug)]
pub(crate) struct MemoryLease {
    store: SharedStore,
    key: Key,
    incarnation: Incarnation,
    /// None until the entry is stored. The entry is this lease's as long as it is this very allocation.
    record: Option<Arc<Record>>,
}

impl MemoryLease {
    /// A claim on an entry that is not stored yet.
    pub(crate) fn new(store: SharedStore, service: &ServiceName, instance: &Instance) -> Self {
        let key = (service.clone(), instance.id().to_owned());
        Self { store, key, incarnation: instance.incarnation(), record: None }
    }

    /// Whether this lease may write the entry. A new lease may replace an entry that is not newer.
    fn check(&self, store: &Store) -> Result<()> {
        let (there, held) = (store.entries.get(&self.key), self.record.is_some());
        if there.zip(self.record.as_ref()).is_some_and(|(there, own)| Arc::ptr_eq(&there.record, own)) {
            return Ok(());
        }
        // Of two claims that are equal, the later one stays.
        let lost_to_equal = held && there.is_some_and(|there| there.claimed);
        let stays = |there: &&Arc<Instance>| {
            there.incarnation() > self.incarnation || lost_to_equal && there.incarnation() == self.incarnation
        };
        let error = match there.and_then(|there| there.record.instance()).filter(stays) {
            Some(there) => conflict(self.incarnation, there),
            None if held => Error::new(ErrorKind::Lost, "the entry is gone or replaced"),
            None => return Ok(()),
        };
        Err(self.in_service(error))
    }

    fn in_service(&self, error: Error) -> Error {
        error.in_backend(BACKEND).for_service(&self.key.0)
    }
}

#[async_trait]
impl Lease for MemoryLease {
    async fn lost(&mut self) -> Error {
        let mut store = self.store.subscribe();
        let store = store.wait_for(|store| self.check(store).is_err()).await.expect("the lease holds the sender");
        self.check(&store).expect_err("waited for")
    }

    async fn update(&mut self, instance: &Instance) -> Result<()> {
        self.store.reach().await?;
        let stored = encode(instance);
        let (entry, mut outcome) = (Entry::read(&self.key, stored.as_bytes(), true), Ok(()));
        let record = Arc::clone(&entry.record);
        self.store.modify(|store| {
            let taken = store.faults.take(stored.as_bytes()).map_err(|error| self.in_service(error));
            outcome = self.check(store).and(taken).map(|()| drop(store.entries.insert(self.key.clone(), entry)));
        });
        outcome.map(|()| self.record = Some(record))
    }

    async fn revoke(self: Box<Self>) -> Result<()> {
        self.store.reach().await // and then drop it
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        self.store.modify_if(|store| {
            self.record.is_some() && self.check(store).is_ok() && store.entries.remove(&self.key).is_some()
        });
    }
}
