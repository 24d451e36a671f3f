//! The channel to the balancers.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use callboard_core::{
    Address, Backoff, Balancer, Call, Connect, Endpoint, Incarnation, Instance, Pick, Picker, Resolver, Result,
    ServiceName, Snapshot, Snapshots, WatchSettings, watch,
};
use futures_core::Stream;

use crate::Channel;
use crate::control::{MAX_DIALS, Parts, Policy};
use crate::dial::Balancers;
use crate::shared::Defaults;
use crate::transport::{Connector, Keepalive, Settings};

/// How long an attempt to connect to one balancer runs alone. The one of gRPC's `pick_first`.
const STAGGER: Duration = Duration::from_millis(250);

/// What a channel to balancers has in common with the one that it is for: the way to get from an address to an encrypted
/// stream, and the name that a certificate must be for. Neither the registry nor a balancer has a say in that.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) service: ServiceName,
    pub(crate) defaults: Defaults,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) settings: Settings,
    pub(crate) backoff: Backoff,
    pub(crate) terms: Terms,
}

/// How far a balancer is heard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// How long calls wait for the first list, and a balancer has to answer.
    pub(crate) patience: Duration,
    /// How many servers of a list are used.
    pub(crate) most: usize,
}

impl Way {
    /// A channel to one of these, in this order: the first that connects, tried one after the other.
    pub(super) fn open(&self, balancers: Vec<Address>) -> Channel {
        let mut settings = self.settings.clone();
        // gRPC's numbers for balancers: one that is gone is noticed within 30 s.
        settings.keepalive = Keepalive::every(Duration::from_secs(20)).timeout(Duration::from_secs(10));
        let balancer: Arc<dyn Balancer> = Arc::new(FirstThatConnects);
        let parts = Parts {
            balancer: Arc::clone(&balancer),
            connector: Arc::clone(&self.connector),
            settings,
            backoff: self.backoff.clone(),
            most_connections: 1,
            extra_idle: Duration::MAX,
            max_dials: MAX_DIALS,
        };
        let defaults = Defaults {
            timeout: None,
            wait_for_ready: true,
            several_connections: false,
            max_waiting_calls: None,
            // They are for the service, not for who says where it is.
            credentials: None,
            ..self.defaults.clone()
        };
        let watcher = watch(Arc::new(These(balancers)), &self.service, WatchSettings::default());
        let _span = tracing::debug_span!("balancers").entered();
        // The service's config is about calls to the service, not to its balancers.
        let policy = Policy::new(&self.service, balancer, Balancers::none(), false);
        let runtime = tokio::runtime::Handle::current();
        Channel::start(&runtime, self.service.clone(), defaults, parts, policy, watcher, None)
    }
}

/// The order in which a client asks balancers: its own, so that many clients do not all ask the same one; whichever was
/// asked last comes last.
pub(super) fn order(balancers: &[Address], asked_last: Option<&Address>) -> Vec<Address> {
    let mut order: VecDeque<_> = balancers.iter().cloned().collect();
    fastrand::shuffle(order.make_contiguous());
    if let Some(index) = order.iter().position(|address| Some(address) == asked_last)
        && let Some(last) = order.remove(index)
    {
        order.push_back(last);
    }
    order.into()
}

/// gRPC's `pick_first`, in the order that there is.
#[derive(Debug)]
struct FirstThatConnects;

impl Balancer for FirstThatConnects {
    fn name(&self) -> &str {
        "pick_first"
    }

    fn connect(&self, endpoints: &[Endpoint]) -> Connect {
        Connect::InOrder { order: (0..endpoints.len()).collect(), attempt_delay: STAGGER }
    }

    fn picker(&self, _: &[Endpoint]) -> Box<dyn Picker> {
        Box::new(Self)
    }
}

impl Picker for FirstThatConnects {
    fn pick(&self, _: &Call<'_>) -> Pick {
        Pick::Endpoint(0)
    }
}

/// Yields one set, and nothing after it.
#[derive(Clone, Debug)]
struct These(Vec<Address>);

impl Resolver for These {
    fn watch(&self, _: &ServiceName) -> Snapshots {
        Box::pin(self.clone())
    }
}

impl Stream for These {
    type Item = Result<Snapshot>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.0.is_empty() {
            return Poll::Pending;
        }
        let instance = |(index, address): (usize, Address)| {
            Instance::new(index.to_string(), address)
                .map(|instance| instance.with_incarnation(Incarnation::from_micros(0)))
        };
        let instances: Result<Vec<_>> = std::mem::take(&mut self.0).into_iter().enumerate().map(instance).collect();
        Poll::Ready(Some(instances.map(Snapshot::new)))
    }
}
