//! External balancers: gRPC's `grpclb`, protocol `grpc.lb.v1`.
//!
//! An instance that is registered as [`InstanceKind::Balancer`](crate::InstanceKind::Balancer) gets no calls of the
//! service. Instead, each channel asks it, or another one of its kind, where to send calls:
//!
//! ```text
//!                 balancers and backends
//!   registry ─────────────────────────────▶ channel ──── calls, with lb-token ───▶ servers
//!                                            │    ▲
//!                        name, call statistics    │ list of servers
//!                                            ▼    │
//!                                           balancer
//! ```
//!
//! Nothing has to be set: a channel asks a balancer if the registry lists one, unless
//! [`external_balancers`](crate::ChannelBuilder::external_balancers) is off. So a single record of kind balancer
//! decides where all calls of the service go. When a balancer takes over, the log names it and its address at `WARN`.
//! The rules are those of grpc-go's `grpclb`:
//!
//! - **Choice of a balancer.** A channel uses one balancer, over a connection of its own: the first that connects, in a
//!   random order. The balancer gets the service's name as it was dialled (`project/test`), as grpc-go sends the path
//!   of its target. The connection uses the channel's connector, TLS and authority, so a balancer's certificate must be
//!   valid for the same name as a server's.
//! - **Lists.** The balancer's list decides. An entry is a server with a token, or a drop. Calls take the entries in
//!   turn, so a server that is listed twice gets twice the calls; each call carries the entry's token as `lb-token`. A
//!   call whose turn falls on a drop fails with `UNAVAILABLE`, even if it [waits for ready](crate::WaitForReady).
//!   Nothing is dropped while no server is ready. The channel's own balancer is not asked, as the order and the
//!   repetitions of the list are the balancer's decision. `weighted` or a picker of your own is used in fallback alone.
//! - **Reports.** If the balancer asks for reports, they say how many calls began, ended, were never sent, were
//!   answered, or were dropped for which token, since the last report. The interval is between 100 ms and a day. The
//!   second of two empty reports is not sent.
//! - **Lost balancers.** When the stream to a balancer ends, the next balancer is tried: at once if this one had
//!   answered, otherwise after the [backoff](crate::ChannelBuilder::backoff). The backoff also applies if two streams
//!   in a row end within a second. The last list is kept.
//! - **Fallback.** In fallback, calls go to the backends that the registry lists, by the channel's own balancer. It
//!   begins when no list has come [within 10 s](crate::ChannelBuilder::fallback_timeout); at once, as in gRPC's C-core,
//!   when no balancer can be connected; when the stream is lost and no server of the list is ready; when the balancer
//!   requests it; and when the registry lists no balancer any more. The next list ends it. A channel that is in use
//!   when its first balancer appears goes on with its backends until there is a list.
//! - **Trust.** A balancer chooses addresses and tokens, nothing else. Invalid entries are skipped, counted and logged;
//!   a list without a valid entry is ignored. If a list has more servers than [a channel
//!   uses](crate::ChannelBuilder::max_instances), each channel uses a random subset. The share of calls that are
//!   dropped stays the same.
//!
//! [`Channel::lookaside`](crate::Channel::lookaside) tells what decides, and so do the errors of calls and the log.
//! [`LoadBalancerServer`] is the other side, for writing a balancer.

mod answer;
mod client;
mod conversation;
mod counts;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod list;
mod list_or_registry;
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

/// The metadata key of a balancer's token for a server.
pub(crate) const LB_TOKEN: HeaderName = HeaderName::from_static("lb-token");

/// How long calls wait for a balancer's first list, and how long a balancer may take to answer: gRPC's value.
pub(crate) const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
