//! callboard end to end over real registries: the examples `server` and `client` as processes of their own, which meet
//! over a registry that is a process of its own too.
#![allow(clippy::unwrap_used, reason = "what the tests share fails them, as they do themselves")]

mod churn;
mod client;
mod hardship;
mod load;
mod lookaside;
mod outage;
mod questions;
mod rolling;
mod server;
mod sharing;
mod tunnel;

pub use churn::churn;
pub use client::{Client, Line};
pub use hardship::{Operator, hardship};
pub use lookaside::lookaside;
pub use outage::outage;
pub use questions::four_questions;
pub use rolling::rolling_restart;
pub use server::Server;
pub use sharing::connections_of_many_services;
pub use tunnel::tunnel;

/// Where the examples are. [`examples!`] knows.
#[derive(Clone, Copy, Debug)]
pub struct Examples {
    /// The path of the example `server`.
    pub server: &'static str,
    /// The path of the example `client`.
    pub client: &'static str,
    /// The path of the example `lookaside`.
    pub lookaside: &'static str,
}

/// The [`Examples`], as Cargo has built them for the test that asks.
// It is a macro because Cargo tells their paths to the tests alone, and not to this library.
#[macro_export]
macro_rules! examples {
    () => {
        $crate::Examples {
            server: env!("CARGO_BIN_EXE_server"),
            client: env!("CARGO_BIN_EXE_client"),
            lookaside: env!("CARGO_BIN_EXE_lookaside"),
        }
    };
}
