//! What calls read.

use std::mem::discriminant;
use std::sync::Arc;

use callboard_core::{ConnectivityState, Endpoint, Error, ErrorKind};
use tokio::time::Instant;

use super::counts::Counts;
use super::picker::{CurrentPicker, Picking};
use super::source::Set;
use super::subchannel::{Status, WhyNotConnected};
use super::subchannels::Subchannels;
use super::summary::Summary;
use crate::config::{ActiveConfig, ConfigStatus, Rules};

/// Everything that a call needs to know, as of one moment. Never changed, only replaced, but for what an endpoint shows of
/// itself.
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
    /// Why they are not connected, if they are not: in the same order, and as it is whenever it is looked at.
    statuses: Arc<[Arc<Status>]>,
}

/// What to do with a call.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Ask the picker.
    Pick(Arc<Picking>),
    /// Wait: something is on its way.
    Wait,
    /// Fail, unless the call is to wait for ready.
    Fail,
    /// Fail in any case: nothing will change any more.
    Ended,
}

/// What is new for calls that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// Nothing: they wait on.
    Alike,
    /// Another picker, or it is known how calls are to be made.
    Renewed,
    /// Other connections, or another verdict.
    Moved,
}

/// One endpoint of a channel, as [`Channel::endpoints`](crate::Channel::endpoints) shows it.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct EndpointStatus {
    /// What the registry says of it, its state, and its live figures.
    pub endpoint: Endpoint,
    /// Why the last attempt to connect failed, unless a later one has succeeded; of an idle endpoint, why its connections
    /// do not last.
    pub connection_error: Option<Error>,
    /// When a failed endpoint may be dialled again. Past, if the balancer does not want it connected now.
    pub retry_at: Option<Instant>,
}

impl Published {
    pub(crate) fn unknown(summary: Arc<Summary>, config: &ActiveConfig) -> Self {
        Self {
            verdict: Verdict::Wait,
            state: ConnectivityState::Connecting,
            summary,
            rules: config.rules().cloned(),
            settled: config.is_off(),
            config: Arc::clone(config.status()),
            endpoints: Arc::default(),
            statuses: Arc::default(),
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
            statuses: Arc::clone(&last.statuses),
        }
    }

    pub(super) fn new(
        picker: &CurrentPicker,
        summary: Arc<Summary>,
        config: &ActiveConfig,
        set: &Set,
        subchannels: &Subchannels,
    ) -> Self {
        let state = aggregate(set, &summary, subchannels.counts());
        let verdict = match (picker.picking(), state) {
            (Some(picking), _) => Verdict::Pick(Arc::clone(picking)),
            (None, ConnectivityState::TransientFailure) => Verdict::Fail,
            _ => Verdict::Wait,
        };
        Self {
            verdict,
            state,
            summary,
            rules: config.rules().cloned(),
            settled: config.is_settled(),
            config: Arc::clone(config.status()),
            endpoints: Arc::clone(subchannels.endpoints()),
            statuses: Arc::clone(subchannels.statuses()),
        }
    }

    /// Whether it is known that no config says anything of calls.
    pub(crate) fn is_unruled(&self) -> bool {
        self.settled && self.rules.is_none()
    }

    /// What there is that waiting calls did not know when this was published.
    pub(crate) fn since(&self, former: &Self) -> Since {
        match (&self.verdict, &former.verdict) {
            (Verdict::Pick(now), Verdict::Pick(then)) if !Arc::ptr_eq(&now.connections, &then.connections) => {
                Since::Moved
            }
            (Verdict::Pick(now), Verdict::Pick(then)) if !Arc::ptr_eq(now, then) => Since::Renewed,
            (now, then) if discriminant(now) != discriminant(then) => Since::Moved,
            _ if self.settled != former.settled => Since::Renewed,
            _ => Since::Alike,
        }
    }

    /// Why no endpoint will be ready until somebody changes something, if that is known: the channel's task has ended, or
    /// the registry or every endpoint fails by what no further attempt cures.
    pub(crate) fn hopeless(&self) -> Option<(ErrorKind, Error)> {
        match self.verdict {
            Verdict::Ended => {
                let ended = Error::new(ErrorKind::Closed, "the channel's task has ended");
                return Some((ErrorKind::Closed, ended));
            }
            Verdict::Fail => {}
            Verdict::Pick(_) | Verdict::Wait => return None,
        }
        if self.endpoints.is_empty() {
            let error = &self.summary.stale()?.error;
            return Some((lasting(error)?, error.clone()));
        }
        let mut first = None;
        for status in &*self.statuses {
            let error = status.get().connection_error?;
            let kind = lasting(&error)?;
            first.get_or_insert((kind, error));
        }
        first
    }

    /// How each endpoint stands, in the registry's order.
    pub(crate) fn statuses(&self) -> Vec<EndpointStatus> {
        let status = |(endpoint, status): (&Endpoint, &Arc<Status>)| {
            let WhyNotConnected { connection_error, retry_at } = status.get();
            EndpointStatus { endpoint: endpoint.clone(), connection_error, retry_at }
        };
        self.endpoints.iter().zip(&*self.statuses).map(status).collect()
    }
}

/// The kind of an error that stays until somebody changes something, whatever is tried; None if it may pass. What it was
/// caused by counts as well: a connector of the user's may say so.
fn lasting(error: &Error) -> Option<ErrorKind> {
    let levels = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let mut kinds = levels.filter_map(|error| error.downcast_ref::<Error>()).map(Error::kind);
    kinds.find(|kind| matches!(kind, ErrorKind::Denied | ErrorKind::Invalid | ErrorKind::Unsupported))
}

/// gRPC's rule: ready if anything is; else connecting if anything is that has not just failed, or waits for its turn; else
/// failing. A set that is known to be empty is failing, and so is a registry that has never answered and cannot be reached.
fn aggregate(set: &Set, summary: &Summary, counts: &Counts) -> ConnectivityState {
    if counts.of(ConnectivityState::Ready) > 0 {
        return ConnectivityState::Ready;
    }
    let hopeful = match set {
        Set::Unanswered => summary.stale().is_none(),
        Set::Awaited(_) => true,
        Set::Known(_) => counts.is_hopeful(Instant::now()),
    };
    if hopeful { ConnectivityState::Connecting } else { ConnectivityState::TransientFailure }
}
