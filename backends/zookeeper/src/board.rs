//! The nodes of one service, as they are now.

use std::collections::{BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use callboard_core::{CONFIG_NAME, Error, Result, Service, Snapshot};
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
/// How often the service's node may come or go between two questions.
const TRIES: usize = 5;

/// What is known of a service, with a watch on everything that is. Each watch is armed by the very question whose
/// answer it guards, so that nothing is missed between the two.
pub(crate) struct Board {
    session: Arc<Session>,
    service: Service,
    directory: String,
    nodes: HashMap<String, Node>,
    /// Tells that nodes have come or gone, or that the service's own has.
    names: BoxFuture<'static, ()>,
    /// Tell the names of the nodes that have changed.
    changes: FuturesUnordered<Abortable<BoxFuture<'static, String>>>,
    /// The connection on which all was read.
    round: u64,
    refresh: Instant,
}

struct Node {
    /// Orders nodes by when they were made.
    made: i64,
    /// What it says: one instance, one record that cannot be read, or the service's config.
    said: Snapshot,
    /// Its watch.
    watch: Option<AbortHandle>,
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
}

impl Board {
    /// Reads everything.
    pub(crate) async fn open(session: Arc<Session>, service: Service, directory: String) -> Result<Self> {
        let mut board = Self {
            session,
            service,
            directory,
            nodes: HashMap::new(),
            names: futures_util::future::pending().boxed(),
            changes: FuturesUnordered::new(),
            round: 0,
            refresh: Instant::now(),
        };
        board.read(Stale::Everything).await?;
        Ok(board)
    }

    /// Waits until something has changed or may have, and reads that.
    pub(crate) async fn change(&mut self) -> Result<()> {
        let stale = self.stale().await;
        self.read(stale).await
    }

    /// The set. Older nodes come first, as of two records of one incarnation the later one is believed.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut nodes: Vec<_> = self.nodes.iter().collect();
        nodes.sort_by_key(|(name, node)| (node.made, name.as_str()));
        let said = || nodes.iter().map(|(_, node)| &node.said);
        let mut snapshot = Snapshot::new(said().flat_map(|said| said.instances.iter().cloned()));
        snapshot.skipped = said().map(|said| said.skipped).sum();
        snapshot.config = said().find_map(|said| said.config.clone());
        snapshot
    }

    async fn stale(&mut self) -> Stale {
        let (mut names, mut nodes) = (false, BTreeSet::new());
        tokio::select! {
            () = &mut self.names => names = true,
            Some(name) = self.changes.next(), if !self.changes.is_empty() => nodes.extend(name.ok()),
            () = self.session.moved_on(self.round) => return Stale::Everything,
            () = sleep_until(self.refresh) => return Stale::Everything,
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
            Stale::Everything => {
                self.round = self.session.round();
                self.refresh = Instant::now() + Duration::from_millis(fastrand::u64(REFRESH));
                (true, self.nodes.keys().cloned().collect())
            }
        };
        if names {
            let listed = self.list().await.map_err(|answer| cannot_read(&self.directory, answer))?;
            nodes.extend(listed.difference(&self.nodes.keys().cloned().collect()).cloned());
            nodes.retain(|name| listed.contains(name));
            self.nodes.retain(|name, _| listed.contains(name));
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

    async fn read_nodes(&mut self, names: BTreeSet<String>) -> Result<()> {
        let Self { session, service, directory, nodes, changes, .. } = self;
        let mut answers = stream::iter(names)
            .map(|name| {
                let (path, session) = (format!("{directory}/{name}"), &*session);
                async move { (name, session.ask(session.client.get_and_watch_data(&path)).await) }
            })
            .buffer_unordered(AT_ONCE);
        while let Some((name, answer)) = answers.next().await {
            let (data, made, watch) = match answer {
                Ok((data, stat, watcher)) => (data, stat.czxid, Some(watcher)),
                // It is there, and whoever cannot read it says so. Who may not read the config does not know how to call.
                Err(zk::Error::NoAuth) if name != CONFIG_NAME => (Vec::new(), 0, None),
                Err(zk::Error::NoNode) => {
                    nodes.remove(&name);
                    continue;
                }
                Err(answer) => return Err(cannot_read(&format!("{directory}/{name}"), answer)),
            };
            let watch = watch.map(|watcher| {
                let ((abort, registration), name) = (AbortHandle::new_pair(), name.clone());
                changes.push(Abortable::new(fired(watcher).map(|()| name).boxed(), registration));
                abort
            });
            let said = if name == CONFIG_NAME {
                config(nodes.get(&name), &data)
            } else {
                Snapshot::from_records(BACKEND, service, [(format!("{directory}/{name}"), data)])
            };
            // The watch of the node as it was is dropped only now that there is another, so that the server need not
            // be told.
            nodes.insert(name, Node { made, said, watch });
        }
        Ok(())
    }
}

fn cannot_read(path: &str, answer: zk::Error) -> Error {
    failed(format!("cannot read {path}"), answer)
}

/// What the config's node says. What it has said before stays the same allocation.
fn config(before: Option<&Node>, data: &[u8]) -> Snapshot {
    let known = before.and_then(|node| node.said.config.clone()).filter(|known| **known == *data);
    let mut said = Snapshot::default();
    said.config = Some(known.unwrap_or_else(|| data.into()));
    said
}

/// Waits until a watch has fired, for whatever reason: it is a cause to look again, and no news in itself.
///
/// The library panics in it if the runtime of its own task has ended; that is a cause to look again too.
pub(crate) fn fired(watcher: zk::OneshotWatcher) -> BoxFuture<'static, ()> {
    AssertUnwindSafe(watcher.changed()).catch_unwind().map(drop).boxed()
}
