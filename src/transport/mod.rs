//! Everything that knows HTTP/2 and sockets. Nothing outside this folder names `h2`.
//!
//! A [`Connection`] is opened by [`open`], which spawns the one task that dials, performs the handshakes, drives the
//! connection and ends with it. The task reports through [`Event`]s; requests are sent on the `Connection`. When its
//! last handle is dropped, the requests in flight finish and the socket closes.

mod bandwidth;
mod connect_error;
mod connection;
mod connector;
mod end;
mod exchange;
mod expiry;
mod failure;
mod first_settings;
mod flood;
mod frames;
#[cfg(fuzzing)]
pub mod fuzzing;
mod greeting;
mod grip;
mod hold;
mod incoming;
mod keepalive;
mod outgoing;
mod phase;
mod progress;
mod pump;
mod read_on;
mod reading;
mod resets;
mod runtime;
mod seen;
mod settings;
mod share;
mod tcp;
mod tcp_keepalive;
#[cfg(feature = "tls")]
mod tls;
mod wire;

pub(crate) use connection::{Connection, ConnectionKey, Event, Opening, Slot, Turn, Wait, open};
pub(crate) use connector::{Connector, Custom, System};
pub(crate) use end::{End, Parting};
pub(crate) use exchange::{Answered, Failed, ResponseHead, Sent};
pub(crate) use expiry::Expiry;
pub(crate) use failure::{Failure, quoted};
pub(crate) use incoming::Incoming;
pub use keepalive::Keepalive;
pub(crate) use outgoing::Outgoing;
pub(crate) use pump::{SentBytes, Streamed};
pub(crate) use runtime::Runtime;
pub(crate) use settings::Settings;
pub(crate) use tcp::Sockets;
pub use tcp_keepalive::TcpKeepalive;
#[cfg(feature = "tls")]
pub use tls::Tls;
