//! The nodes of one service, each with a watch on it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Breaks, CONFIG_NAME, Error, Record, RecordReader, Result, Snapshot};
use futures_util::future::{AbortHandle, Abortable, BoxFuture};
use futures_util::stream::{self, FuturesUnordered};
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep, sleep_until};
use zookeeper_client as zk;

use crate::client::{Session, TRIES, fired};
use crate::error::{BACKEND, failed};
use crate::record;

/// How many nodes are read at once.
const AT_ONCE: usize = 256;
/// How long changes are gathered before they are read.
const GATHER: Duration = Duration::from_millis(20);
/// How often everything is read without any other reason, in milliseconds: every five minutes, ±20 %.
const REFRESH: std::ops::Range<u64> = 240_000..360_000;
/// How often the right to read is checked, in milliseconds: every 20 s, ±20 %. ZooKeeper does not report that a right
/// is taken away, and its watches do not fire for a client that may not read what has changed.
const RIGHTS: std::ops::Range<u64> = 16_000..24_000;

/// The nodes of a service, with a watch on each. Each watch is set by the request that reads the node, so that no
/// change is missed between the two.
pub(super) struct Nodes {
    session: Arc<Session>,
    directory: String,
    reader: RecordReader,
    by_name: HashMap<String, Node>,
    /// Fires when nodes were created or removed, or the service's own node was.
    names: BoxFuture<'static, ()>,
    /// Each yields the name of a node that has changed.
    changes: FuturesUnordered<Abortable<BoxFuture<'static, String>>>,
    /// The connection on which all was read.
    round: u64,
    refresh: Instant,
    rights: Instant,
}

struct Node {
    /// Orders nodes by when they were made.
    made: i64,
    content: Content,
    /// Its watch.
    watch: Option<AbortHandle>,
}

enum Content {
    Record(Record),
    /// The service's config.
    Config(Arc<[u8]>),
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

/// What has to be read again.
enum Stale {
    Everything,
    /// These nodes, and the list of names if `names` is set.
    Some {
        names: bool,
        nodes: BTreeSet<String>,
    },
    /// Nothing, if the nodes may still be read.
    Rights,
}

impl Nodes {
    /// Reads everything.
    pub(super) async fn open(session: Arc<Session>, directory: String) -> Result<Self> {
        let mut read = Self {
            session,
            directory,
            reader: RecordReader::new(BACKEND),
            by_name: HashMap::new(),
            names: futures_util::future::pending().boxed(),
            changes: FuturesUnordered::new(),
            round: 0,
            refresh: Instant::now(),
            rights: Instant::now(),
        };
        read.read(Stale::Everything).await?;
        Ok(read)
    }

    /// Waits until something has changed or may have changed, and reads that.
    pub(super) async fn change(&mut self) -> Result<()> {
        loop {
            match self.stale().await {
                Stale::Rights => self.check_rights().await?,
                stale => return self.read(stale).await,
            }
        }
    }

    /// Fails if the right to read the service or its config has been taken away. A record that may not be read any more
    /// is found by the next refresh.
    async fn check_rights(&mut self) -> Result<()> {
        let Self { session, directory, by_name, rights, .. } = self;
        *rights = later(RIGHTS);
        // Reading the data, which is next to nothing, needs the same right as listing what may be thousands of nodes.
        if let Err(answer @ zk::Error::NoAuth) = session.ask(session.client.get_data(directory)).await {
            return Err(cannot_read(directory, answer));
        }
        if by_name.contains_key(CONFIG_NAME) {
            let path = format!("{directory}/{CONFIG_NAME}");
            if let Err(answer @ zk::Error::NoAuth) = session.ask(session.client.get_data(&path)).await {
                return Err(cannot_read(&path, answer));
            }
        }
        // Without an answer nothing is known. If the session ends, that is noticed elsewhere.
        Ok(())
    }

    /// The set. Older nodes come first, because of two records of one incarnation the later one is believed.
    pub(super) fn snapshot(&self) -> impl Future<Output = Snapshot> + Send {
        set_of(&self.by_name)
    }

    async fn stale(&mut self) -> Stale {
        let (mut names, mut nodes) = (false, BTreeSet::new());
        tokio::select! {
            () = &mut self.names => names = true,
            Some(name) = self.changes.next(), if !self.changes.is_empty() => nodes.extend(name.ok()),
            () = self.session.moved_on(self.round) => return Stale::Everything,
            () = sleep_until(self.refresh) => return Stale::Everything,
            () = sleep_until(self.rights) => return Stale::Rights,
        }
        sleep(GATHER).await;
        while let Some(Some(name)) = self.changes.next().now_or_never() {
            nodes.extend(name.ok());
        }
        Stale::Some { names, nodes }
    }

    async fn read(&mut self, stale: Stale) -> Result<()> {
        let (names, mut nodes) = match stale {
            Stale::Some { names, nodes } => (names, nodes),
            Stale::Everything | Stale::Rights => {
                self.round = self.session.round();
                (self.refresh, self.rights) = (later(REFRESH), later(RIGHTS));
                (true, self.by_name.keys().cloned().collect())
            }
        };
        if names {
            let listed = self.list().await.map_err(|answer| cannot_read(&self.directory, answer))?;
            nodes.extend(listed.difference(&self.by_name.keys().cloned().collect()).cloned());
            nodes.retain(|name| listed.contains(name));
            let gone: Vec<_> = self.by_name.keys().filter(|name| !listed.contains(*name)).cloned().collect();
            gone.iter().for_each(|name| self.forget(name));
        }
        self.read_nodes(nodes).await
    }

    /// The names of the instances' nodes and of the config's node. If the service's own node is not there, there are
    /// none, and a watch waits for it.
    async fn list(&mut self) -> Result<BTreeSet<String>, zk::Error> {
        let Self { session, directory, .. } = self;
        for _ in 0..TRIES {
            match session.ask(session.client.list_and_watch_children(directory)).await {
                Ok((names, watcher)) => {
                    self.names = fired(watcher);
                    return Ok(names.into_iter().filter(|name| record::is_part(name)).collect());
                }
                Err(zk::Error::NoNode) => {}
                Err(answer) => return Err(answer),
            }
            let (stat, watcher) = session.ask(session.client.check_and_watch_stat(directory)).await?;
            if stat.is_none() {
                self.names = fired(watcher);
                return Ok(BTreeSet::new());
            }
        }
        Err(zk::Error::NoNode)
    }

    fn forget(&mut self, name: &str) {
        if let Some(Content::Record(record)) = self.by_name.remove(name).as_ref().map(|gone| &gone.content) {
            self.reader.forget(record);
        }
    }

    async fn read_nodes(&mut self, names: BTreeSet<String>) -> Result<()> {
        let (directory, session) = (self.directory.clone(), Arc::clone(&self.session));
        let mut answers = stream::iter(names)
            .map(|name| {
                let (path, session) = (format!("{directory}/{name}"), &session);
                async move { (name, session.ask(session.client.get_and_watch_data(&path)).await) }
            })
            .buffer_unordered(AT_ONCE);
        let mut breaks = Breaks::new();
        while let Some((name, answer)) = answers.next().await {
            breaks.take().await;
            let (data, made, watch) = match answer {
                Ok((data, stat, watcher)) => (data, stat.czxid, Some(watcher)),
                // It counts as a record that cannot be read. A config that may not be read is an error: without it, a
                // client does not know how to call.
                Err(zk::Error::NoAuth) if name != CONFIG_NAME => (Vec::new(), 0, None),
                Err(zk::Error::NoNode) => {
                    self.forget(&name);
                    continue;
                }
                Err(answer) => return Err(cannot_read(&format!("{directory}/{name}"), answer)),
            };
            let watch = watch.map(|watcher| {
                let ((abort, registration), name) = (AbortHandle::new_pair(), name.clone());
                self.changes.push(Abortable::new(fired(watcher).map(|()| name).boxed(), registration));
                abort
            });
            let content = self.content(&name, &data);
            // The watch of the former node is dropped only now that there is another, so that no request to remove it
            // is sent.
            self.by_name.insert(name, Node { made, content, watch });
        }
        Ok(())
    }

    /// The content of a node. The config stays the same allocation while it does not change.
    fn content(&mut self, name: &str, data: &[u8]) -> Content {
        let before = self.by_name.get(name).map(|before| &before.content);
        let Some((id, incarnation)) = record::read(name) else {
            return Content::Config(match before {
                Some(Content::Config(known)) if **known == *data => Arc::clone(known),
                _ => data.into(),
            });
        };
        if let Some(Content::Record(before)) = before {
            self.reader.forget(before);
        }
        let path = format!("{}/{name}", self.directory);
        Content::Record(self.reader.read_incarnation(&path, id, incarnation, data))
    }
}

async fn set_of(nodes: &HashMap<String, Node>) -> Snapshot {
    let mut nodes: Vec<_> = nodes.iter().collect();
    nodes.sort_by_key(|(name, node)| (node.made, name.as_str()));
    let (mut snapshot, mut breaks) = (Snapshot::default(), Breaks::new());
    for (_, node) in nodes {
        breaks.take().await;
        match &node.content {
            Content::Record(record) => snapshot.add(record),
            Content::Config(config) => snapshot.config = Some(Arc::clone(config)),
        }
    }
    snapshot
}

/// The moment after a random number of milliseconds in this range.
fn later(range: std::ops::Range<u64>) -> Instant {
    Instant::now() + Duration::from_millis(fastrand::u64(range))
}

fn cannot_read(path: &str, answer: zk::Error) -> Error {
    failed(format!("cannot read {path}"), answer)
}
