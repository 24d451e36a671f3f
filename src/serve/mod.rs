//! The life of a server: it binds, registers, serves, deregisters, drains and ends.

mod address_first;
mod advertise;
mod advertised;
mod incoming;
mod listener;
mod route;
mod serving;
mod setup;
mod shutdown_signal;
mod shutdown_steps;
mod signals;
mod start;
mod streams;

use std::pin::Pin;

pub use self::advertise::advertise_address;
pub use self::incoming::Incoming;
pub use self::listener::Listener;
pub use self::serving::Serving;
pub use self::setup::{Serve, serve};
pub use self::shutdown_signal::Shutdown;
pub use self::signals::LaterSignal;
pub use self::streams::EndStreams;

type Later = Pin<Box<dyn Future<Output = ()> + Send>>;
