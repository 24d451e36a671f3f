//! External balancers: gRPC's `grpclb`, protocol `grpc.lb.v1`.
//!
//! An instance that is registered as [`InstanceKind::Balancer`](crate::InstanceKind::Balancer) gets no calls of the service.
//! It makes each channel ask it, or another one of its kind, where calls are to go:
//!
//! ```text
//!                 balancers and backends
//!   registry ─────────────────────────────▶ channel ──── calls, with lb-token ───▶ servers
//!                                            │    ▲
//!                       name, figures of calls    │ list of servers
//!                                            ▼    │
//!                                           balancer
//! ```
//!
//! Nothing has to be set: a channel whose registry lists a balancer asks it, unless it is
//! [told not to](crate::ChannelBuilder::external_balancers). So whoever may write one record of kind balancer decides where
//! all calls of the service go: the log says who and where at `WARN` when one takes over. What a channel does then is what
//! grpc-go's `grpclb` does, and these are its rules:
//!
//! - **Who is asked.** One balancer, over a connection of its own: the first that connects, in a random order. The name
//!   that it is told is the service's, as it was dialled (`project/test`), as grpc-go tells the path of its target. The
//!   connection has the channel's own connector, TLS and authority: a balancer's certificate is verified for the same
//!   name as a server's.
//! - **What decides.** The balancer's list: an entry is a server with a token, or a drop. Calls take the entries in turn,
//!   so a server that is listed twice gets twice the calls; each call carries the entry's token as `lb-token`. A call
//!   whose turn falls on a drop fails with `UNAVAILABLE`, even if it [waits for ready](crate::WaitForReady); nothing is
//!   dropped while no server is ready. The channel's own balancer is not asked, since the list's order and
//!   repetitions are the balancer's word: `weighted` or a picker of one's own is in force in fallback alone.
//! - **Reports.** If the balancer asks for them: how many calls began, ended, were never sent, were answered, or were
//!   dropped for which token, since the last report. Not more often than every 100 ms, nor more seldom than once a
//!   day. The second of two empty reports
//!   is not sent.
//! - **When the conversation breaks**, the next balancer is asked, at once if this one had answered, else (or if it broke
//!   within a second, twice in a row) after the [backoff](crate::ChannelBuilder::backoff). The last list is kept.
//! - **Fallback.** Calls go to the backends that the registry lists, by the channel's own balancer: when no list has come
//!   [within 10 s](crate::ChannelBuilder::fallback_timeout); at once, as in gRPC's C-core, when no balancer can be
//!   connected; when the conversation is lost and no server of the list is
//!   ready; when the balancer says so; and when the last balancer leaves the registry. The next list ends it. A channel
//!   that learns of its first balancer while it is in use goes on with its backends until there is a list.
//! - **Trust.** A balancer may choose addresses and tokens, nothing else. Entries that make no sense are skipped, counted
//!   and logged; a list without one entry that does is ignored. Of a list with more servers than
//!   [a channel uses](crate::ChannelBuilder::max_instances), a subset is used, drawn by each channel for itself; the share
//!   of calls that are dropped stays as the balancer wants it.
//!
//! [`Channel::lookaside`](crate::Channel::lookaside) says who decides, and so do errors of calls and the log.
//! [`LoadBalancerServer`] is the other side, to write a balancer with.

mod answer;
mod client;
mod conversation;
mod counts;
mod decision;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod list;
mod picker;
mod source;
mod status;
mod subset;

use callboard_protocols::grpclb::BALANCE_LOAD;
use http::HeaderName;

pub use callboard_protocols::grpclb::{Answers, Asked, LoadBalancerServer, Reports, v1};
pub(crate) use client::{Terms, Way};
pub(crate) use source::Lookup;
pub use status::{Decides, FallbackReason, Lookaside};

/// Where a balancer's token for a server stands.
pub(crate) const LB_TOKEN: HeaderName = HeaderName::from_static("lb-token");

/// How long calls wait for a balancer's first list, and a balancer has to answer: gRPC's number.
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
