//! A channel's state in one line, for error messages.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use callboard_core::{Address, ConnectivityState, Error, ServiceName, Stale};

use super::source::{Set, Source, SourceStatus};
use super::subchannel::Subchannel;
use super::subchannels::Subchannels;

/// A channel's state for error messages: the service, its endpoints by state, the last connection error, and the state
/// of the registry.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    service: ServiceName,
    set: Known,
    states: Vec<(ConnectivityState, usize)>,
    /// The last connection error, and its address.
    connection_error: Option<(Address, Error)>,
    stale: Option<Stale>,
    skipped: usize,
    /// How many instances of the registry are not used.
    left_out: usize,
    /// The status of the source, if it is not the registry alone.
    source: Option<Arc<dyn SourceStatus>>,
    /// Whether the channel's task has ended, so that the registry is not watched any more.
    ended: bool,
}

/// What is known of the set.
#[derive(Clone, Copy, Debug)]
enum Known {
    Unanswered,
    Awaited(&'static str),
    Count(usize),
}

impl Known {
    fn of(set: &Set) -> Self {
        match set {
            Set::Unanswered => Self::Unanswered,
            Set::Awaited(what) => Self::Awaited(what),
            Set::Known(instances) => Self::Count(instances.len()),
        }
    }
}

impl Summary {
    pub(super) fn of(service: &ServiceName, source: &dyn Source, subchannels: &Subchannels) -> Self {
        use ConnectivityState::{Connecting, Idle, Ready, TransientFailure};
        let states = [Ready, Connecting, Idle, TransientFailure].map(|state| (state, subchannels.counts().of(state)));
        let failed = subchannels.counts().last_failing().map(|place| &subchannels.list()[place]);
        let error = |failed: &Subchannel| Some((failed.address().clone(), failed.last_error()?.clone()));
        let registry = source.registry();
        Self {
            service: service.clone(),
            set: Known::of(&source.set()),
            states: states.into_iter().filter(|(_, count)| *count > 0).collect(),
            connection_error: failed.and_then(error),
            stale: registry.stale.clone(),
            skipped: registry.skipped,
            left_out: registry.left_out,
            source: source.status(),
            ended: false,
        }
    }

    /// The summary of a channel whose task has not started yet.
    pub(crate) fn unknown(service: ServiceName) -> Self {
        let (states, stale, source) = Default::default();
        let (skipped, left_out, set) = (0, 0, Known::Unanswered);
        Self { service, set, states, connection_error: None, stale, skipped, left_out, source, ended: false }
    }

    /// The last summary of a channel whose task has ended.
    pub(super) fn ended(&self) -> Self {
        Self { ended: true, ..self.clone() }
    }

    /// The service that was dialled.
    pub(crate) fn service(&self) -> &ServiceName {
        &self.service
    }

    /// The state of the registry.
    pub(crate) fn registry(&self) -> String {
        let when = if self.ended { ", when the channel ended" } else { "" };
        let source = self.source.as_ref().map(|source| format!("; {source}")).unwrap_or_default();
        let Some(stale) = &self.stale else { return format!("registry in reach{when}{source}") };
        let age = stale.as_of.map(|as_of| format!("; the set is {:.1?} old", as_of.elapsed())).unwrap_or_default();
        format!("registry out of reach: {}{age}{when}{source}", stale.error.chain())
    }

    /// Why there is no endpoint to call, if that is known: a connection's error, or else the registry's.
    pub(crate) fn cause(&self) -> Option<&Error> {
        let of_registry = || self.stale.as_ref().map(|stale| &stale.error);
        self.connection_error.as_ref().map(|(_, error)| error).or_else(of_registry)
    }

    /// The status of the source, if it is not the registry alone.
    pub(crate) fn source(&self) -> Option<&Arc<dyn SourceStatus>> {
        self.source.as_ref()
    }

    pub(crate) fn stale(&self) -> Option<&Stale> {
        self.stale.as_ref()
    }
}

/// The latest summary of a channel. It holds no connection and does not keep the channel's task alive. A response that
/// is being received may outlive its channel, and needs the summary for its errors.
#[derive(Debug)]
pub(crate) struct Standing(ArcSwap<Summary>);

impl Standing {
    pub(crate) fn new(summary: Arc<Summary>) -> Self {
        Self(ArcSwap::new(summary))
    }

    pub(crate) fn now(&self) -> arc_swap::Guard<Arc<Summary>> {
        self.0.load()
    }

    pub(crate) fn note(&self, summary: Arc<Summary>) {
        self.0.store(summary);
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "service {}: ", self.service)?;
        let why_empty = || self.source.as_ref().and_then(|source| source.why_empty());
        match self.set {
            Known::Unanswered => f.write_str("the registry has not answered yet")?,
            Known::Awaited(what) => f.write_str(what)?,
            Known::Count(0) if self.skipped > 0 && why_empty().is_none() => {
                f.write_str("no record in the registry can be read")?;
            }
            Known::Count(0) => f.write_str(why_empty().unwrap_or("no instances are registered"))?,
            Known::Count(1) => f.write_str("1 endpoint")?,
            Known::Count(count) => write!(f, "{count} endpoints")?,
        }
        for (index, (state, count)) in self.states.iter().enumerate() {
            write!(f, "{}{count} {state}", if index == 0 { " (" } else { ", " })?;
        }
        if !self.states.is_empty() {
            f.write_str(")")?;
        }
        if self.skipped > 0 {
            let records = if self.skipped == 1 { "record" } else { "records" };
            write!(f, ", {} unreadable {records} (written by a newer version?)", self.skipped)?;
        }
        if self.left_out > 0 {
            write!(f, ", {} more left out (max_instances)", self.left_out)?;
        }
        if let Some((address, error)) = &self.connection_error {
            write!(f, "; last connection error: {address}: {}", error.chain())?;
        }
        match (&self.stale, &self.source) {
            (None, None) => Ok(()),
            _ => write!(f, "; {}", self.registry()),
        }
    }
}
