//! The endpoints of a channel: those in its registry, or those of a balancer that the registry lists.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use callboard_core::{Address, Balancer, Instance, InstanceKind, Resolution, Watcher};
use futures_core::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::client::Way;
use super::conversation::{STEADY, Talker};
use super::list::List;
use super::list_or_registry::{Decision, News};
use super::picker::ByList;
use crate::control::{Set, Source, SourceStatus};

/// Watches the registry, and uses a balancer while it lists any.
pub(crate) struct Lookup {
    watcher: Watcher,
    /// None if balancers are not used.
    way: Option<Way>,
    /// The endpoints to connect.
    set: Set,
    /// The balancer that replaces the channel's own one: it picks by the list in this value.
    by_list: Option<(Arc<List>, Arc<dyn Balancer>)>,
    /// None while the registry lists no balancer.
    asking: Option<Box<Asking>>,
    /// The balancer that the log named last. It is logged because a single record in the registry is enough to redirect
    /// all calls.
    named: Option<(String, Address)>,
    /// When a balancer is tried, if the registry lists one again after it listed none.
    ask_from: Instant,
}

/// The balancers in the registry, and the outcome of asking them.
struct Asking {
    /// As the registry lists them.
    listed: Vec<Arc<Instance>>,
    balancers: watch::Sender<Arc<[Address]>>,
    /// The task ends when this is dropped, and so do the connections to balancers.
    talk: Pin<Box<dyn Future<Output = Infallible> + Send>>,
    news: mpsc::Receiver<News>,
    decision: Decision,
    /// When the first list is late. None if that is too far away for an `Instant`.
    late_at: Option<Instant>,
}

impl Source for Lookup {
    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(self.changed())
    }

    fn registry(&self) -> &Resolution {
        self.watcher.resolution()
    }

    fn set(&self) -> Set {
        self.set.clone()
    }

    fn balancer(&self) -> Option<&Arc<dyn Balancer>> {
        self.by_list.as_ref().map(|(_, balancer)| balancer)
    }

    /// Used while no balancer can be reached.
    fn note_ready(&mut self, any: bool) -> bool {
        let Some(asking) = &mut self.asking else { return false };
        let backends = || self.watcher.resolution().instances.iter().flat_map(|all| all.iter()).any(is_backend);
        let changed = asking.decision.note_ready(any, backends);
        if changed {
            self.renew();
        }
        changed
    }

    fn status(&self) -> Option<Arc<dyn SourceStatus>> {
        self.asking.as_ref().map(|asking| Arc::new(asking.decision.status()) as _)
    }
}

impl Lookup {
    pub(crate) fn new(watcher: Watcher, way: Option<Way>) -> Self {
        let (set, ask_from) = (Set::Unanswered, Instant::now());
        Self { watcher, way, set, by_list: None, asking: None, named: None, ask_from }
    }

    /// Waits until the registry, the list, or what decides has changed. Cancel-safe: what was received is kept in
    /// `self`.
    async fn changed(&mut self) {
        match &mut self.asking {
            None => drop(self.watcher.changed().await),
            Some(asking) => tokio::select! {
                _ = self.watcher.changed() => {}
                () = asking.changed() => {
                    self.name_who_decides();
                    return self.renew();
                }
            },
        }
        self.take_registry();
        self.renew();
    }

    /// Updates the set of balancers.
    fn take_registry(&mut self) {
        let Some(instances) = &self.watcher.resolution().instances else { return };
        let mut listed: Vec<_> =
            instances.iter().filter(|instance| instance.kind() == InstanceKind::Balancer).cloned().collect();
        let Some(first) = listed.first() else {
            if self.asking.take().is_some() {
                tracing::info!("the registry lists no balancer any more");
            }
            return;
        };
        let Some(way) = &self.way else {
            if self.named.is_none() {
                let (id, address, balancers) = (first.id(), first.address(), listed.len());
                tracing::warn!(id, %address, balancers, "the registry lists an external balancer, which is not asked");
                self.named = Some((id.to_owned(), address.clone()));
            }
            return;
        };
        listed.sort_by(|one, other| one.address().cmp(other.address()));
        match &mut self.asking {
            None => {
                let in_use = matches!(&self.set, Set::Known(instances) if !instances.is_empty());
                let from = std::mem::replace(&mut self.ask_from, Instant::now() + STEADY);
                self.asking = Some(Asking::begin(way.clone(), listed, in_use, from));
            }
            Some(asking) => asking.take_listed(listed),
        }
    }

    /// Logs which balancer decides, if it is not the one that the log named last.
    fn name_who_decides(&mut self) {
        let Some(Asking { listed, decision, .. }) = self.asking.as_deref() else { return };
        let (Some(list), Some(address)) = (decision.list(), decision.balancer()) else { return };
        let known = listed.iter().find(|balancer| balancer.address() == address);
        let who = (known.map(|balancer| balancer.id().to_owned()).unwrap_or_default(), address.clone());
        if self.named.as_ref() != Some(&who) {
            tracing::warn!(id = who.0, %address, %list, "an external balancer has taken over: calls go where it says");
            self.named = Some(who);
        }
    }

    /// Updates the endpoints to connect, and what decides.
    fn renew(&mut self) {
        let registered = self.watcher.resolution().instances.as_ref();
        let list = self.asking.as_ref().and_then(|asking| asking.decision.list());
        self.set = match (&self.asking, list, registered) {
            (Some(asking), ..) if asking.decision.waits_for_first_list() => {
                Set::Awaited("no balancer has sent a list yet")
            }
            (_, Some(list), registered) => Set::Known(listed(list, registered.map_or(&[], |registered| registered))),
            (_, None, Some(registered)) => Set::Known(backends(registered)),
            (_, None, None) => Set::Unanswered,
        };
        let same = |list: &&Arc<List>| self.by_list.as_ref().is_some_and(|(known, _)| Arc::ptr_eq(known, list));
        if list.filter(same).is_none() {
            self.by_list = list.map(|list| (Arc::clone(list), Arc::new(ByList::new(list)) as _));
        }
    }
}

impl Asking {
    fn begin(way: Way, listed: Vec<Arc<Instance>>, in_use: bool, from: Instant) -> Box<Self> {
        tracing::info!(balancers = listed.len(), "the registry lists balancers: one of them will be used");
        let late_at = Instant::now().checked_add(way.terms.patience);
        let (balancers, known) = watch::channel(addresses(&listed));
        let (said, news) = mpsc::channel(1);
        let talker = Talker::new(way, known, said);
        Box::new(Self {
            listed,
            balancers,
            talk: Box::pin(talker.run(from)),
            news,
            decision: Decision::new(in_use),
            late_at,
        })
    }

    /// Updates the balancers to those that the registry lists now.
    fn take_listed(&mut self, listed: Vec<Arc<Instance>>) {
        let now = addresses(&listed);
        self.listed = listed;
        self.balancers.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
    }

    /// Waits until the decision has changed.
    async fn changed(&mut self) {
        let late_at = self.late_at.filter(|_| self.decision.waits_for_first_list());
        tokio::select! {
            never = &mut self.talk => match never {},
            // The sender is in `talk`, so there is one.
            Some(news) = self.news.recv() => self.decision.take(news),
            () = sleep_until(late_at.unwrap_or_else(Instant::now)), if late_at.is_some() => self.decision.first_list_is_late(),
        }
    }
}

fn addresses(listed: &[Arc<Instance>]) -> Arc<[Address]> {
    let mut addresses: Vec<_> = listed.iter().map(|balancer| balancer.address().clone()).collect();
    // Two records with one address are one balancer.
    addresses.dedup();
    addresses.into()
}

/// The instances that get calls of the service. If that is all of them, the same set.
fn backends(said: &Arc<[Arc<Instance>]>) -> Arc<[Arc<Instance>]> {
    match said.iter().all(is_backend) {
        true => Arc::clone(said),
        false => said.iter().filter(|instance| is_backend(instance)).cloned().collect(),
    }
}

fn is_backend(instance: &Arc<Instance>) -> bool {
    // There may be more kinds in the future. Instances of an unknown kind get no calls.
    instance.kind() == InstanceKind::Backend
}

/// The servers of a list. If the registry has an instance for one, that instance is used, so that it is shown and
/// restarts are noticed. It does not affect where calls go.
fn listed(list: &List, said: &[Arc<Instance>]) -> Arc<[Arc<Instance>]> {
    let known: HashMap<&Address, &Arc<Instance>> =
        said.iter().filter(|instance| is_backend(instance)).map(|instance| (instance.address(), instance)).collect();
    let known = |server: &Arc<Instance>| Arc::clone(known.get(&server.address()).copied().unwrap_or(server));
    list.servers().iter().map(known).collect()
}
