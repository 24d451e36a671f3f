//! What decides where a channel's calls go.

use std::any::Any;
use std::fmt;

use callboard_core::{Address, Error};

use crate::control::SourceStatus;

/// The status of external balancers in a channel: see [`Channel::lookaside`](crate::Channel::lookaside).
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Lookaside {
    /// What decides where calls go.
    pub decides: Decides,
    /// The connected balancer. None while there is none.
    pub balancer: Option<Address>,
    /// Why no balancer is connected: why the last stream ended, or why none can be reached.
    pub error: Option<Error>,
}

/// What decides where calls go.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decides {
    /// Nothing yet: the first list of a balancer is awaited, and calls wait.
    Nobody,
    /// A balancer's list. It is kept when the stream ends.
    #[non_exhaustive]
    Balancer {
        /// The number of different servers in the list.
        servers: usize,
        /// The number of entries, including drop entries. A server may have several.
        entries: usize,
        /// The number of entries that drop calls.
        drops: usize,
        /// The number of invalid entries, which are not among the others.
        skipped: usize,
    },
    /// The channel's own balancer, with the backends in the registry, for this reason.
    Fallback(FallbackReason),
}

/// Why no balancer decides although the registry lists some.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackReason {
    /// The channel used the registry's backends before a balancer was listed, and goes on until there is a list.
    FirstList,
    /// No list was received in time.
    Timeout,
    /// No balancer could be connected: every attempt failed.
    Unreachable,
    /// The stream was lost, and no server of the list is ready.
    Lost,
    /// The balancer requested it.
    Asked,
}

impl fmt::Display for Lookaside {
    /// One line: `balancer 10.0.0.9:4000 decides (3 servers)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost = if self.balancer.is_none() { ", and no balancer can be reached" } else { "" };
        match &self.decides {
            Decides::Nobody => f.write_str("the first list of a balancer is awaited")?,
            Decides::Balancer { servers, entries, drops, .. } => {
                match &self.balancer {
                    Some(address) => write!(f, "balancer {address} decides")?,
                    None => f.write_str("the last list of a balancer decides")?,
                }
                write!(f, " ({servers} servers in {entries} entries, {drops} of them drop){lost}")?;
            }
            Decides::Fallback(reason) => write!(f, "fallback to the registry's backends: {reason}")?,
        }
        match &self.error {
            Some(error) => write!(f, "; last error of a balancer: {}", error.chain()),
            None => Ok(()),
        }
    }
}

impl SourceStatus for Lookaside {
    fn why_empty(&self) -> Option<&'static str> {
        matches!(self.decides, Decides::Balancer { .. }).then_some("the balancer's list has no server")
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl fmt::Display for FallbackReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FirstList => "the first list of a balancer is awaited",
            Self::Timeout => "no balancer sent a list in time",
            Self::Unreachable => "no balancer can be connected",
            Self::Lost => "the balancer was lost, and no server of its list is ready",
            Self::Asked => "the balancer asked for it",
        })
    }
}
