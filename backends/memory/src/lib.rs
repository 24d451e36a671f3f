#![doc = include_str!("../README.md")]

mod faults;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use callboard_core::{
    CONFIG_NAME, Error, ErrorKind, Incarnation, Instance, Lease, Registry, Resolver, Result, Service,
};
use callboard_core::{Snapshot, Snapshots, decode, encode};
use futures_util::{StreamExt, stream};
use tokio::sync::watch;

pub use faults::Faults;

/// A registry in memory, and its resolver. Clones share one board, which is empty at first.
#[derive(Clone, Debug, Default)]
pub struct Memory(watch::Sender<Board>);

#[derive(Debug, Default)]
struct Board {
    entries: BTreeMap<Key, Arc<[u8]>>,
    faults: Faults,
}

type Key = (Service, String);

#[derive(Debug)]
struct MemoryLease {
    memory: Memory,
    key: Key,
    incarnation: Incarnation,
    /// None until it is on the board. The entry is this lease's as long as it is this very allocation.
    stored: Option<Arc<[u8]>>,
}

impl MemoryLease {
    /// Whether the entry is this lease's to write. A new lease may replace what is not newer.
    fn check(&self, board: &Board) -> Result<()> {
        let newer = |there: &[u8]| decode(there).is_ok_and(|there| there.incarnation > self.incarnation);
        let (kind, message) = match (board.entries.get(&self.key), &self.stored) {
            (Some(there), Some(ours)) if Arc::ptr_eq(there, ours) => return Ok(()),
            (Some(there), _) if newer(there) => (ErrorKind::Conflict, "a newer incarnation is on the board"),
            (_, Some(_)) => (ErrorKind::Lost, "the entry is gone or replaced"),
            (_, None) => return Ok(()),
        };
        Err(Error::new(kind, message).in_backend("memory").for_service(&self.key.0))
    }
}

#[async_trait]
impl Registry for Memory {
    async fn register(&self, service: &Service, instance: &Instance) -> Result<Box<dyn Lease>> {
        let (key, incarnation) = ((service.clone(), instance.id.clone()), instance.incarnation);
        let mut lease = MemoryLease { memory: self.clone(), key, incarnation, stored: None };
        lease.update(instance).await?;
        Ok(Box::new(lease))
    }

    async fn configure(&self, service: &Service, config: Option<&str>) -> Result<()> {
        self.reach().await?;
        self.put(service, CONFIG_NAME, config.map(str::as_bytes));
        Ok(())
    }
}

#[async_trait]
impl Lease for MemoryLease {
    async fn lost(&mut self) -> Error {
        let mut board = self.memory.0.subscribe();
        let board = board.wait_for(|board| self.check(board).is_err()).await.expect("the lease holds the sender");
        self.check(&board).expect_err("waited for")
    }

    async fn update(&mut self, instance: &Instance) -> Result<()> {
        self.memory.reach().await?;
        let (stored, mut outcome) = (Arc::from(encode(instance).into_bytes()), Ok(()));
        self.memory.0.send_modify(|board| {
            outcome = self.check(board).map(|()| drop(board.entries.insert(self.key.clone(), Arc::clone(&stored))));
        });
        outcome.map(|()| self.stored = Some(stored))
    }

    async fn revoke(self: Box<Self>) -> Result<()> {
        self.memory.reach().await // and then drop it
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        self.memory.0.send_if_modified(|board| {
            self.stored.is_some() && self.check(board).is_ok() && board.entries.remove(&self.key).is_some()
        });
    }
}

impl Resolver for Memory {
    fn watch(&self, service: &Service) -> Snapshots {
        let (mut board, service) = (self.0.subscribe(), service.clone());
        board.mark_changed(); // so that the first item is the set as it is
        let opened = board.borrow().faults.outages.len();
        stream::try_unfold((board, service), move |(mut board, service)| async move {
            while board.changed().await.is_ok() {
                let news = board.borrow_and_update().news(&service, opened)?;
                if let Some(snapshot) = news {
                    return Ok(Some((snapshot, (board, service))));
                }
            }
            Ok(None)
        })
        .boxed()
    }
}

impl Board {
    /// What a watch says next. `opened` is how many outages there had been when it was opened.
    fn news(&self, service: &Service, opened: usize) -> Result<Option<Snapshot>> {
        let ours = self.entries.iter().filter(|((s, id), _)| s == service && id != CONFIG_NAME);
        Ok(self.faults.let_through(opened)?.then(|| {
            let mut set = Snapshot::from_records("memory", service, ours.map(|((_, id), stored)| (id, stored)));
            set.config = self.entries.get(&(service.clone(), CONFIG_NAME.to_owned())).cloned();
            set
        }))
    }
}
