//! The state of a channel, as calls read it.

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

/// A snapshot of everything that a call needs to know. It is never changed, only replaced. The live figures and the
/// state of its endpoints do change.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) verdict: Verdict,
    pub(crate) state: ConnectivityState,
    pub(crate) summary: Arc<Summary>,
    /// The rules of the service config for calls. None if there are none.
    pub(crate) rules: Option<Arc<Rules>>,
    /// Whether it is known if there is a service config, and what it contains.
    pub(crate) settled: bool,
    pub(crate) config: Arc<ConfigStatus>,
    /// In the registry's order.
    endpoints: Arc<[Endpoint]>,
    /// Why endpoints are not connected, in the same order. These are live values.
    statuses: Arc<[Arc<Status>]>,
}

/// What to do with a call.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Ask the picker.
    Pick(Arc<Picking>),
    /// Wait: an endpoint may become ready soon.
    Wait,
    /// Fail, unless the call waits for ready.
    Fail,
    /// Fail in any case: the channel's task has ended.
    Ended,
}

/// What has changed for calls that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// Nothing.
    Alike,
    /// The picker, or the service config has become known.
    Renewed,
    /// The connections, or what to do with calls.
    Moved,
}

/// One endpoint of a channel, as [`Channel::endpoints`](crate::Channel::endpoints) shows it.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct EndpointStatus {
    /// Its registration, its state, and its live figures.
    pub endpoint: Endpoint,
    /// Why the last attempt to connect failed, unless a later one has succeeded. For an idle endpoint, why its
    /// connections do not last.
    pub connection_error: Option<Error>,
    /// When a failed endpoint may be dialled again. In the past if the balancer does not want it connected now.
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

    /// The state of a channel whose task has ended: the last state without connections.
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

    /// Whether it is known that no service config affects calls.
    pub(crate) fn is_unruled(&self) -> bool {
        self.settled && self.rules.is_none()
    }

    /// What has changed for waiting calls since the former state.
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

    /// Why no endpoint can become ready without a change of configuration, if that is known: the channel's task has
    /// ended, or the registry or every endpoint fails with an error that retrying does not cure.
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

    /// The status of each endpoint, in the registry's order.
    pub(crate) fn statuses(&self) -> Vec<EndpointStatus> {
        let status = |(endpoint, status): (&Endpoint, &Arc<Status>)| {
            let WhyNotConnected { connection_error, retry_at } = status.get();
            EndpointStatus { endpoint: endpoint.clone(), connection_error, retry_at }
        };
        self.endpoints.iter().zip(&*self.statuses).map(status).collect()
    }
}

/// The kind of an error that retrying does not cure; None if it may pass. Its causes are checked as well, because a
/// user's connector may report such an error.
fn lasting(error: &Error) -> Option<ErrorKind> {
    let levels = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    let mut kinds = levels.filter_map(|error| error.downcast_ref::<Error>()).map(Error::kind);
    kinds.find(|kind| matches!(kind, ErrorKind::Denied | ErrorKind::Invalid | ErrorKind::Unsupported))
}

/// gRPC's rule: ready if any endpoint is; else connecting if any is connecting without having failed last, or waits to
/// be dialled; else failing. A set that is known to be empty is failing, and so is a registry that has never answered
/// and cannot be reached.
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
