//! The nodes of one service, as they are now.

use std::collections::{BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Breaks, CONFIG_NAME, Error, Record, RecordReader, Result, Snapshot};
use futures_util::future::{AbortHandle, Abortable, BoxFuture};
use futures_util::stream::{self, FuturesUnordered};
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep, sleep_until};
use zookeeper_client as zk;

use crate::failure::{BACKEND, failed};
use crate::layout;
use crate::session::Session;

/// How many nodes are read at once.
const AT_ONCE: usize = 256;
/// How long changes are gathered before they are read.
const GATHER: Duration = Duration::from_millis(20);
/// How often everything is read although nothing is said of it: five minutes, and a fifth more or less.
const REFRESH: std::ops::Range<u64> = 240_000..360_000;
/// How often it is asked whether all may still be read: each 20 s, and a fifth more or less. ZooKeeper does not say when a
/// right is taken away, and says nothing to a watch any more whose client may not read what has changed.
const RIGHTS: std::ops::Range<u64> = 16_000..24_000;
/// How often the service's node may come or go between two questions.
const TRIES: usize = 5;

/// What is known of a service, with a watch on everything that is. Each watch is armed by the very question whose
/// answer it guards, so that nothing is missed between the two.
pub(crate) struct Board {
    session: Arc<Session>,
    directory: String,
    reader: RecordReader,
    nodes: HashMap<String, Node>,
    /// Tells that nodes have come or gone, or that the service's own has.
    names: BoxFuture<'static, ()>,
    /// Tell the names of the nodes that have changed.
    changes: FuturesUnordered<Abortable<BoxFuture<'static, String>>>,
    /// The connection on which all was read.
    round: u64,
    refresh: Instant,
    rights: Instant,
}

struct Node {
    /// Orders nodes by when they were made.
    made: i64,
    said: NodeSays,
    /// Its watch.
    watch: Option<AbortHandle>,
}

enum NodeSays {
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
    /// The list of names, if so said, and these nodes.
    Some {
        names: bool,
        nodes: BTreeSet<String>,
    },
    /// Nothing, if it may still be read.
    Rights,
}

impl Board {
    /// Reads everything.
    pub(crate) async fn open(session: Arc<Session>, directory: String) -> Result<Self> {
        let mut board = Self {
            session,
            directory,
            reader: RecordReader::new(BACKEND),
            nodes: HashMap::new(),
            names: futures_util::future::pending().boxed(),
            changes: FuturesUnordered::new(),
            round: 0,
            refresh: Instant::now(),
            rights: Instant::now(),
        };
        board.read(Stale::Everything).await?;
        Ok(board)
    }

    /// Waits until something has changed or may have, and reads that.
    pub(crate) async fn change(&mut self) -> Result<()> {
        loop {
            match self.stale().await {
                Stale::Rights => self.may_read().await?,
                stale => return self.read(stale).await,
            }
        }
    }

    /// Fails if a right has been taken away that everything of this service needs. A record that may not be read any more
    /// is found by the next refresh.
    async fn may_read(&mut self) -> Result<()> {
        let Self { session, directory, nodes, rights, .. } = self;
        *rights = later(RIGHTS);
        // To read its data, which is next to nothing, takes the same right as to list what may be thousands of nodes.
        if let Err(answer @ zk::Error::NoAuth) = session.ask(session.client.get_data(directory)).await {
            return Err(cannot_read(directory, answer));
        }
        if nodes.contains_key(CONFIG_NAME) {
            let path = format!("{directory}/{CONFIG_NAME}");
            if let Err(answer @ zk::Error::NoAuth) = session.ask(session.client.get_data(&path)).await {
                return Err(cannot_read(&path, answer));
            }
        }
        // Without an answer nothing is known, and the session's end will tell.
        Ok(())
    }

    /// The set. Older nodes come first, as of two records of one incarnation the later one is believed.
    pub(crate) fn snapshot(&self) -> impl Future<Output = Snapshot> + Send {
        set_of(&self.nodes)
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
                (true, self.nodes.keys().cloned().collect())
            }
        };
        if names {
            let listed = self.list().await.map_err(|answer| cannot_read(&self.directory, answer))?;
            nodes.extend(listed.difference(&self.nodes.keys().cloned().collect()).cloned());
            nodes.retain(|name| listed.contains(name));
            let gone: Vec<_> = self.nodes.keys().filter(|name| !listed.contains(*name)).cloned().collect();
            gone.iter().for_each(|name| self.forget(name));
        }
        self.read_nodes(nodes).await
    }

    /// The names of the instances' nodes, and of the config's. A service whose node is not there has none, and is watched
    /// for it.
    async fn list(&mut self) -> Result<BTreeSet<String>, zk::Error> {
        let Self { session, directory, .. } = self;
        for _ in 0..TRIES {
            match session.ask(session.client.list_and_watch_children(directory)).await {
                Ok((names, watcher)) => {
                    self.names = fired(watcher);
                    return Ok(names.into_iter().filter(|name| layout::is_part(name)).collect());
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
        if let Some(NodeSays::Record(record)) = self.nodes.remove(name).as_ref().map(|gone| &gone.said) {
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
                // It is there, and whoever cannot read it says so. Who may not read the config does not know how to call.
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
            let said = self.said(&name, &data);
            // The watch of the node as it was is dropped only now that there is another, so that the server need not
            // be told.
            self.nodes.insert(name, Node { made, said, watch });
        }
        Ok(())
    }

    /// What a node says. The config stays the same allocation while it does not change.
    fn said(&mut self, name: &str, data: &[u8]) -> NodeSays {
        let before = self.nodes.get(name).map(|before| &before.said);
        let Some((id, incarnation)) = layout::read(name) else {
            return NodeSays::Config(match before {
                Some(NodeSays::Config(known)) if **known == *data => Arc::clone(known),
                _ => data.into(),
            });
        };
        if let Some(NodeSays::Record(before)) = before {
            self.reader.forget(before);
        }
        let path = format!("{}/{name}", self.directory);
        NodeSays::Record(self.reader.read_incarnation(&path, id, incarnation, data))
    }
}

async fn set_of(nodes: &HashMap<String, Node>) -> Snapshot {
    let mut nodes: Vec<_> = nodes.iter().collect();
    nodes.sort_by_key(|(name, node)| (node.made, name.as_str()));
    let (mut snapshot, mut breaks) = (Snapshot::default(), Breaks::new());
    for (_, node) in nodes {
        breaks.take().await;
        match &node.said {
            NodeSays::Record(record) => snapshot.add(record),
            NodeSays::Config(config) => snapshot.config = Some(Arc::clone(config)),
        }
    }
    snapshot
}

/// A moment that is so many milliseconds away.
fn later(range: std::ops::Range<u64>) -> Instant {
    Instant::now() + Duration::from_millis(fastrand::u64(range))
}

fn cannot_read(path: &str, answer: zk::Error) -> Error {
    failed(format!("cannot read {path}"), answer)
}

/// Waits until a watch has fired, for whatever reason: it is a cause to look again, and no news in itself.
///
/// The library panics in it if the runtime of its own task has ended; that is a cause to look again too.
pub(crate) fn fired(watcher: zk::OneshotWatcher) -> BoxFuture<'static, ()> {
    AssertUnwindSafe(watcher.changed()).catch_unwind().map(drop).boxed()
}
