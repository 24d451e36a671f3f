//! Everything that knows HTTP/2 and sockets. Nothing outside this folder names `h2`.
//!
//! A [`Connection`] is opened by [`open`], which spawns the one task that dials, shakes hands, drives the connection
//! and ends with it. The task reports through [`Event`]s; whoever holds the `Connection` sends requests on it. When
//! the last holder drops it, the requests in flight finish and the socket closes.

mod connection;
mod connector;
mod driver;
mod exchange;
mod failure;
mod frames;
mod incoming;
mod keepalive;
mod outgoing;
mod pump;
mod settings;
mod streams;
#[cfg(feature = "tls")]
mod tls;
mod wire;

pub(crate) use connection::{Connection, End, Event, Opening, open};
pub(crate) use connector::{Connector, Custom, System};
pub(crate) use exchange::{Failed, Heard, Sent, Slot};
pub(crate) use failure::Failure;
pub(crate) use incoming::Incoming;
pub use keepalive::Keepalive;
pub(crate) use outgoing::Outgoing;
pub(crate) use settings::Settings;
#[cfg(feature = "tls")]
pub use tls::Tls;
