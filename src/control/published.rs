//! What calls read.

use std::sync::Arc;

use callboard_core::{ConnectivityState, Endpoint, Error};
use tokio::time::Instant;

use super::roster::Roster;
use super::rotation::{Ready, Rotation};
use super::subchannel::Subchannel;
use super::{ConfigStatus, Policy, Rules, Summary};

/// Everything that a call needs to know, as of one moment. Never changed, only replaced.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) verdict: Verdict,
    pub(crate) state: ConnectivityState,
    pub(crate) summary: Arc<Summary>,
    /// What the service's config says of calls. None if it says nothing, or there is none.
    pub(crate) rules: Option<Arc<Rules>>,
    /// Whether it is known what the service's config says, if there is one.
    pub(crate) settled: bool,
    pub(crate) config: Arc<ConfigStatus>,
    /// In the registry's order.
    endpoints: Arc<[Endpoint]>,
    /// Of those that are not as they should be; in the same order.
    troubles: Vec<Trouble>,
}

/// Why and until when an endpoint is not connected. Kept apart because it is rare: with thousands of endpoints it would
/// be most of the work of telling that one has changed.
#[derive(Clone, Debug)]
struct Trouble {
    /// Of the endpoint, among all.
    index: usize,
    connection_error: Option<Error>,
    retry_at: Option<Instant>,
}

impl Trouble {
    fn of((index, subchannel): (usize, &Subchannel)) -> Option<Self> {
        let (connection_error, retry_at) = (subchannel.last_error(), subchannel.retry_at());
        let any = connection_error.is_some() || retry_at.is_some();
        any.then(|| Self { index, connection_error: connection_error.cloned(), retry_at })
    }
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
    pub(crate) fn unknown(summary: Arc<Summary>, policy: &Policy) -> Self {
        Self {
            verdict: Verdict::Wait,
            state: ConnectivityState::Connecting,
            summary,
            rules: None,
            settled: policy.is_off(),
            config: Arc::clone(policy.status()),
            endpoints: Arc::default(),
            troubles: Vec::new(),
        }
    }

    /// Of a channel whose task has ended: as it stood last, but for the connections.
    pub(super) fn ended(last: &Self) -> Self {
        Self {
            verdict: Verdict::Ended,
            state: ConnectivityState::Shutdown,
            summary: Arc::new(last.summary.ended()),
            rules: last.rules.clone(),
            settled: last.settled,
            config: Arc::clone(&last.config),
            endpoints: Arc::clone(&last.endpoints),
            troubles: last.troubles.clone(),
        }
    }

    pub(super) fn new(
        rotation: &Rotation,
        summary: Arc<Summary>,
        policy: &Policy,
        known: bool,
        roster: &Roster,
    ) -> Self {
        let state = aggregate(known, summary.registry_fails(), roster.subchannels());
        let verdict = match (rotation.ready(), state) {
            (Some(ready), _) => Verdict::Pick(Arc::clone(ready)),
            (None, ConnectivityState::TransientFailure) => Verdict::Fail,
            _ => Verdict::Wait,
        };
        let troubles = roster.subchannels().iter().enumerate().filter_map(Trouble::of).collect();
        Self {
            verdict,
            state,
            summary,
            rules: policy.rules().cloned(),
            settled: policy.is_settled(),
            config: Arc::clone(policy.status()),
            endpoints: Arc::clone(roster.endpoints()),
            troubles,
        }
    }

    /// Whether it is known that no config says anything of calls.
    pub(crate) fn is_unruled(&self) -> bool {
        self.settled && self.rules.is_none()
    }

    /// How each endpoint stands, in the registry's order.
    pub(crate) fn statuses(&self) -> Vec<EndpointStatus> {
        let healthy =
            |endpoint: &Endpoint| EndpointStatus { endpoint: endpoint.clone(), connection_error: None, retry_at: None };
        let mut statuses: Vec<_> = self.endpoints.iter().map(healthy).collect();
        for Trouble { index, connection_error, retry_at } in &self.troubles {
            if let Some(status) = statuses.get_mut(*index) {
                status.connection_error.clone_from(connection_error);
                status.retry_at = *retry_at;
            }
        }
        statuses
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
