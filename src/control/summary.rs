//! One line about a channel, for those who have to be told why there is no answer.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use callboard_core::{Address, ConnectivityState, Error, Resolution, ServiceName, Stale};

use super::roster::Roster;
use super::subchannel::Subchannel;
use crate::lookaside::{Decides, Lookaside};

/// How a channel stands, for error messages: the service, its endpoints by state, the last connection error, and what
/// the registry says.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    service: ServiceName,
    /// None until the first set has come.
    known: Option<usize>,
    states: Vec<(ConnectivityState, usize)>,
    /// The last one, and whose it is.
    connection_error: Option<(Address, Error)>,
    stale: Option<Stale>,
    skipped: usize,
    /// Instances that the registry has beyond those.
    left_out: usize,
    /// None while the registry lists no external balancer.
    lookaside: Option<Lookaside>,
    /// Nobody follows the registry any more.
    ended: bool,
}

impl Summary {
    pub(super) fn of(service: &ServiceName, resolution: &Resolution, roster: &Roster) -> Self {
        use ConnectivityState::{Connecting, Idle, Ready, TransientFailure};
        let states = [Ready, Connecting, Idle, TransientFailure].map(|state| (state, roster.census().count(state)));
        let failed = roster.census().last_failing().map(|place| &roster.subchannels()[place]);
        let error = |failed: &Subchannel| Some((failed.address().clone(), failed.last_error()?.clone()));
        Self {
            service: service.clone(),
            known: resolution.instances.as_ref().map(|instances| instances.len()),
            states: states.into_iter().filter(|(_, count)| *count > 0).collect(),
            connection_error: failed.and_then(error),
            stale: resolution.stale.clone(),
            skipped: resolution.skipped,
            left_out: resolution.left_out,
            lookaside: None,
            ended: false,
        }
    }

    /// The same, with how it stands with external balancers.
    pub(super) fn beside(self, lookaside: Option<Lookaside>) -> Self {
        Self { lookaside, ..self }
    }

    /// Of a channel whose task has not looked yet.
    pub(crate) fn unknown(service: ServiceName) -> Self {
        let (states, stale, lookaside) = Default::default();
        let (skipped, left_out) = (0, 0);
        Self { service, known: None, states, connection_error: None, stale, skipped, left_out, lookaside, ended: false }
    }

    /// Of a channel whose task has ended: as it stood last.
    pub(super) fn ended(&self) -> Self {
        Self { ended: true, ..self.clone() }
    }

    /// The service that was dialled.
    pub(crate) fn service(&self) -> &ServiceName {
        &self.service
    }

    /// How the registry stands.
    pub(crate) fn registry(&self) -> String {
        let when = if self.ended { ", when the channel ended" } else { "" };
        let lookaside = self.lookaside.as_ref().map(|lookaside| format!("; {lookaside}")).unwrap_or_default();
        let Some(stale) = &self.stale else { return format!("registry in reach{when}{lookaside}") };
        let age = stale.as_of.map(|as_of| format!("; the set is {:.1?} old", as_of.elapsed())).unwrap_or_default();
        format!("registry out of reach: {}{age}{when}{lookaside}", stale.error.chain())
    }

    /// Why there is no endpoint to call, as far as it is known: a connection's error, or else the registry's.
    pub(crate) fn cause(&self) -> Option<&Error> {
        let of_registry = || self.stale.as_ref().map(|stale| &stale.error);
        self.connection_error.as_ref().map(|(_, error)| error).or_else(of_registry)
    }

    pub(crate) fn lookaside(&self) -> Option<&Lookaside> {
        self.lookaside.as_ref()
    }

    /// Whether it is the registry's fault if nobody is known. While a balancer's first list is awaited it is not.
    pub(super) fn registry_fails(&self) -> bool {
        let awaited = self.lookaside.as_ref().is_some_and(|lookaside| lookaside.decides == Decides::Nobody);
        self.stale.is_some() && !awaited
    }

    pub(crate) fn stale(&self) -> Option<&Stale> {
        self.stale.as_ref()
    }
}

impl Summary {
    fn is_steered(&self) -> bool {
        self.lookaside.as_ref().is_some_and(|lookaside| matches!(lookaside.decides, Decides::Balancer { .. }))
    }
}

/// The latest summary of a channel. It holds no connection and does not keep the channel's task alive, so whoever may
/// have to tell of it can have it for as long as he likes: a response that is on its way outlives its channel.
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
        match self.known {
            None if self.lookaside.is_some() => f.write_str("no balancer has sent a list yet")?,
            None => f.write_str("the registry has not answered yet")?,
            Some(0) if self.is_steered() => f.write_str("the balancer's list has no server")?,
            Some(0) if self.skipped > 0 => f.write_str("no record in the registry can be read")?,
            Some(0) => f.write_str("no instances are registered")?,
            Some(1) => f.write_str("1 endpoint")?,
            Some(count) => write!(f, "{count} endpoints")?,
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
        match (&self.stale, &self.lookaside) {
            (None, None) => Ok(()),
            _ => write!(f, "; {}", self.registry()),
        }
    }
}
