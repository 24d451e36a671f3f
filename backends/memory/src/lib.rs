#![doc = include_str!("../README.md")]

mod faults;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use callboard_core::{
    CONFIG_NAME, Error, ErrorKind, Incarnation, Instance, Lease, Record, RecordReader, Registry, Resolver, Result,
    ServiceName, Snapshot, Snapshots, conflict, encode,
};
use futures_util::{StreamExt, stream};
use tokio::sync::watch;

pub use faults::Faults;

/// A registry in memory, and its resolver. Clones share one board, which is empty at first.
#[derive(Clone, Debug, Default)]
pub struct Memory(watch::Sender<Board>);

#[derive(Debug, Default)]
struct Board {
    entries: BTreeMap<Key, Entry>,
    configs: BTreeMap<ServiceName, Arc<[u8]>>,
    faults: Faults,
}

#[derive(Debug)]
struct Entry {
    /// It was read when it was put there, so that a set costs its pointers.
    record: Arc<Record>,
    /// Whether a lease has put it there, and not [`Memory::put`].
    claimed: bool,
}

impl Entry {
    fn read((service, id): &Key, stored: &[u8], claimed: bool) -> Self {
        let record = RecordReader::new(BACKEND).read(&format!("{service}/{id}"), id, stored);
        Self { record: Arc::new(record), claimed }
    }
}

type Key = (ServiceName, String);

const BACKEND: &str = "memory";

#[derive(Debug)]
struct MemoryLease {
    memory: Memory,
    key: Key,
    incarnation: Incarnation,
    /// None until it is on the board. The entry is this lease's as long as it is this very allocation.
    record: Option<Arc<Record>>,
}

impl MemoryLease {
    /// Whether the entry is this lease's to write. A new lease may replace what is not newer.
    fn check(&self, board: &Board) -> Result<()> {
        let (there, held) = (board.entries.get(&self.key), self.record.is_some());
        if there.zip(self.record.as_ref()).is_some_and(|(there, ours)| Arc::ptr_eq(&there.record, ours)) {
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
        Err(self.ours(error))
    }

    fn ours(&self, error: Error) -> Error {
        error.in_backend(BACKEND).for_service(&self.key.0)
    }
}

#[async_trait]
impl Registry for Memory {
    async fn register(&self, service: &ServiceName, instance: &Instance) -> Result<Box<dyn Lease>> {
        let (key, incarnation) = ((service.clone(), instance.id().to_owned()), instance.incarnation());
        let mut lease = MemoryLease { memory: self.clone(), key, incarnation, record: None };
        lease.update(instance).await?;
        Ok(Box::new(lease))
    }

    async fn put_service_config(&self, service: &ServiceName, config: Option<&str>) -> Result<()> {
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
        let stored = encode(instance);
        let (entry, mut outcome) = (Entry::read(&self.key, stored.as_bytes(), true), Ok(()));
        let record = Arc::clone(&entry.record);
        self.memory.0.send_modify(|board| {
            let taken = board.faults.take(stored.as_bytes()).map_err(|error| self.ours(error));
            outcome = self.check(board).and(taken).map(|()| drop(board.entries.insert(self.key.clone(), entry)));
        });
        outcome.map(|()| self.record = Some(record))
    }

    async fn revoke(self: Box<Self>) -> Result<()> {
        self.memory.reach().await // and then drop it
    }
}

impl Drop for MemoryLease {
    fn drop(&mut self) {
        self.memory.0.send_if_modified(|board| {
            self.record.is_some() && self.check(board).is_ok() && board.entries.remove(&self.key).is_some()
        });
    }
}

impl Resolver for Memory {
    fn watch(&self, service: &ServiceName) -> Snapshots {
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
    fn news(&self, service: &ServiceName, opened: usize) -> Result<Option<Snapshot>> {
        let first = (service.clone(), String::new());
        let ours = self.entries.range(first..).take_while(|((of, _), _)| of == service);
        Ok(self.faults.let_through(opened)?.then(|| {
            let mut set: Snapshot = ours.map(|(_, there)| &*there.record).collect();
            set.config = self.configs.get(service).cloned();
            set
        }))
    }
}
