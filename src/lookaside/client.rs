//! The channel to the balancers.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use callboard_core::{
    Address, Backoff, Balancer, Call, Connect, ConnectivityState, Incarnation, Instance, Member, Members, Pick, Picker,
    Resolver, Result, ServiceName, Snapshot, Snapshots, WatchSettings, watch,
};
use futures_core::Stream;
use futures_core::future::BoxFuture;
use tonic::Status;
use tonic::body::Body;

use crate::call;
use crate::config::{ActiveConfig, Balancers};
use crate::control::{self, EndpointStatus, MAX_DIALS, Parts, Shared};
use crate::grpc::{Answer, Defaults};
use crate::transport::{Connector, Keepalive, Settings};

/// How long an attempt to connect to one balancer runs before the next one is tried beside it. The value of gRPC's
/// `pick_first`.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// What a channel to balancers shares with the channel that uses them: the connector, with TLS, and the name that a
/// certificate must have. Neither the registry nor a balancer can change these.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) service: ServiceName,
    pub(crate) defaults: Defaults,
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) settings: Settings,
    pub(crate) backoff: Backoff,
    pub(crate) terms: Terms,
}

/// The limits of what a balancer may do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// How long calls wait for the first list, and how long a balancer may take to answer.
    pub(crate) patience: Duration,
    /// How many servers of a list are used.
    pub(crate) most: usize,
}

impl Way {
    /// Makes a channel to one of these balancers: the first that connects. They are tried one after the other, in this
    /// order.
    pub(super) fn open(&self, balancers: Vec<Address>) -> BalancerChannel {
        let mut settings = self.settings.clone();
        // gRPC's values for balancers: a dead one is noticed within 30 s.
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
            // The credentials are for the service, not for its balancers.
            credentials: None,
            ..self.defaults.clone()
        };
        let watcher = watch(Arc::new(These(balancers)), &self.service, WatchSettings::default());
        let _span = tracing::debug_span!("balancers").entered();
        // The service's config is about calls to the service, not to its balancers.
        let config = ActiveConfig::new(&self.service, balancer, Balancers::new([]), false);
        let runtime = tokio::runtime::Handle::current();
        BalancerChannel(control::start(&runtime, self.service.clone(), defaults, parts, config, Box::new(watcher)))
    }
}

/// A channel to one of the balancers. It ends with its last clone.
#[derive(Clone, Debug)]
pub(super) struct BalancerChannel(Arc<Shared>);

impl BalancerChannel {
    pub(super) fn watch_state(&self) -> tokio::sync::watch::Receiver<ConnectivityState> {
        self.0.state()
    }

    pub(super) fn endpoints(&self) -> Vec<EndpointStatus> {
        self.0.published().statuses()
    }
}

impl tower_service::Service<http::Request<Body>> for BalancerChannel {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        call::run(Arc::clone(&self.0), request)
    }
}

/// The order in which a client tries balancers. It is random, so that many clients do not all use the same one. The
/// balancer that was used last comes last.
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

/// gRPC's `pick_first`, without changing the order.
#[derive(Debug)]
struct FirstThatConnects;

impl Balancer for FirstThatConnects {
    fn name(&self) -> &str {
        "pick_first"
    }

    fn connect(&self, members: &Members) -> Connect {
        Connect::InOrder { order: members.iter().collect(), attempt_delay: ATTEMPT_DELAY }
    }

    fn picker(&self, members: &Members) -> Box<dyn Picker> {
        Box::new(First(members.ready().first().copied()))
    }
}

#[derive(Debug)]
struct First(Option<Member>);

impl Picker for First {
    fn pick(&self, _: &Call<'_>) -> Pick {
        self.0.map_or(Pick::Wait, Pick::To)
    }
}

/// A resolver that yields one set, and nothing after it.
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
