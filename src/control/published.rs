//! What calls read.

use std::sync::Arc;

use callboard_core::{Balancer, ConnectivityState, Endpoint, Error, Picker};
use tokio::time::Instant;

use super::Summary;
use super::subchannel::Subchannel;
use crate::transport::Connection;

/// Everything that a call needs to know, as of one moment. Never changed, only replaced.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) verdict: Verdict,
    pub(crate) state: ConnectivityState,
    pub(crate) summary: Summary,
    pub(crate) endpoints: Vec<EndpointStatus>,
}

/// What to do with a call.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Ask the picker.
    Pick(Arc<Ready>),
    /// Wait: something is on its way.
    Wait,
    /// Fail, unless the call is to wait for ready.
    Fail,
    /// Fail in any case: nothing will change any more.
    Ended,
}

/// The ready endpoints and the picker over them. An index of the picker is one into both lists.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) picker: Arc<dyn Picker>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) connections: Vec<Connections>,
}

/// A ready endpoint's open connections: the first, and those that were opened because it was full.
#[derive(Debug)]
pub(crate) struct Connections {
    first: Arc<Connection>,
    more: Vec<Arc<Connection>>,
}

impl Connections {
    fn of(subchannel: &Subchannel) -> Option<Self> {
        let mut connections = subchannel.connections().cloned();
        let first = connections.next()?;
        Some(Self { first, more: connections.collect() })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Connection>> {
        std::iter::once(&self.first).chain(&self.more)
    }
}

impl Ready {
    /// Whether this is what the subchannels have, unchanged.
    fn is<'a>(&self, mut ready: impl Iterator<Item = &'a Subchannel>) -> bool {
        let same = |(endpoint, connections): (&Endpoint, &Connections), now: &Subchannel| {
            Arc::ptr_eq(endpoint.instance(), now.endpoint().instance())
                && connections.iter().map(Arc::as_ptr).eq(now.connections().map(Arc::as_ptr))
        };
        let mut known = self.endpoints.iter().zip(&self.connections);
        known.all(|known| ready.next().is_some_and(|now| same(known, now))) && ready.next().is_none()
    }
}

/// One endpoint of a channel, as [`Channel::endpoints`](crate::Channel::endpoints) shows it.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct EndpointStatus {
    /// What the registry says of it, its state, and its live figures.
    pub endpoint: Endpoint,
    /// Why the last attempt to connect failed, unless a later one has succeeded.
    pub connection_error: Option<Error>,
    /// When a failed endpoint may be dialled again. Past, if the balancer does not want it connected now.
    pub retry_at: Option<Instant>,
}

impl Published {
    pub(crate) fn unknown(summary: Summary) -> Self {
        Self { verdict: Verdict::Wait, state: ConnectivityState::Connecting, summary, endpoints: Vec::new() }
    }

    /// Of a channel whose task has ended: as it stood last, but for the connections.
    pub(super) fn ended(last: &Self) -> Self {
        let (summary, endpoints) = (last.summary.clone(), last.endpoints.clone());
        Self { verdict: Verdict::Ended, state: ConnectivityState::Shutdown, summary, endpoints }
    }

    pub(super) fn new(rotation: &Rotation, summary: Summary, known: bool, subchannels: &[Subchannel]) -> Self {
        let state = aggregate(known, summary.stale().is_some(), subchannels);
        let verdict = match (&rotation.ready, state) {
            (Some(ready), _) => Verdict::Pick(Arc::clone(ready)),
            (None, ConnectivityState::TransientFailure) => Verdict::Fail,
            _ => Verdict::Wait,
        };
        let status = |subchannel: &Subchannel| EndpointStatus {
            endpoint: subchannel.endpoint().clone(),
            connection_error: subchannel.last_error().cloned(),
            retry_at: subchannel.retry_at(),
        };
        Self { verdict, state, summary, endpoints: subchannels.iter().map(status).collect() }
    }
}

/// gRPC's rule: ready if anything is; else connecting if anything is that has not just failed; else failing. A set
/// that is known to be empty is failing, and so is a registry that has never answered and cannot be reached.
fn aggregate(known: bool, registry_fails: bool, subchannels: &[Subchannel]) -> ConnectivityState {
    if subchannels.iter().any(Subchannel::is_ready) {
        return ConnectivityState::Ready;
    }
    let hopeful = if known { subchannels.iter().any(|subchannel| !subchannel.is_failing()) } else { !registry_fails };
    if hopeful { ConnectivityState::Connecting } else { ConnectivityState::TransientFailure }
}

/// The ready endpoints as they were when the picker was made. A new picker is made only if they have changed.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    ready: Option<Arc<Ready>>,
}

impl Rotation {
    pub(super) fn update(&mut self, balancer: &dyn Balancer, subchannels: &[Subchannel]) {
        let ready = || subchannels.iter().filter(|subchannel| subchannel.is_ready());
        let same = match &self.ready {
            Some(known) => known.is(ready()),
            None => ready().next().is_none(),
        };
        if same {
            return;
        }
        let connections: Vec<_> = ready().filter_map(Connections::of).collect();
        let endpoints: Vec<_> = ready().map(|subchannel| subchannel.endpoint().clone()).collect();
        self.ready = (!endpoints.is_empty()).then(|| {
            let picker = Arc::from(balancer.picker(&endpoints));
            Arc::new(Ready { picker, endpoints, connections })
        });
    }
}
