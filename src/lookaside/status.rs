//! Who decides where a channel's calls go.

use std::any::Any;
use std::fmt;

use callboard_core::{Address, Error};

use crate::control::SourceStatus;

/// How a channel stands with the external balancers that its registry lists: see
/// [`Channel::lookaside`](crate::Channel::lookaside).
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Lookaside {
    /// Who decides where calls go.
    pub decides: Decides,
    /// The balancer that is talked to. None while one is being looked for.
    pub balancer: Option<Address>,
    /// Why there is no conversation with a balancer: why the last one ended, or none can be reached.
    pub error: Option<Error>,
}

/// Who decides where calls go.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decides {
    /// Nobody yet: a balancer's first list is awaited, and calls wait with it.
    Nobody,
    /// A balancer's list. It is kept when the conversation breaks.
    #[non_exhaustive]
    Balancer {
        /// Different servers in the list.
        servers: usize,
        /// Entries of the list, those that drop calls included. A server may stand there several times.
        entries: usize,
        /// Entries that drop calls.
        drops: usize,
        /// Entries that could not be read, beside the others.
        skipped: usize,
    },
    /// The channel's own balancer, over the backends that the registry lists, for this reason.
    Fallback(FallbackReason),
}

/// Why balancers do not decide although there are some.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FallbackReason {
    /// The channel used the registry's backends before it learnt of a balancer, and goes on until there is a list.
    FirstList,
    /// No list came in time.
    Timeout,
    /// No balancer could be connected: every attempt failed.
    Unreachable,
    /// The conversation was lost, and no server of the list is ready.
    Lost,
    /// The balancer said so.
    Asked,
}

impl fmt::Display for Lookaside {
    /// One line: `balancer 10.0.0.9:4000 decides (3 servers)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lost = if self.balancer.is_none() { ", and no balancer is in reach" } else { "" };
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
