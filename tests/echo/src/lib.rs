//! The echo service that callboard's tests, examples and benches call: a real tonic server on loopback TCP that can be
//! stopped gracefully or cut off with calls in flight, and that counts what reaches it.

mod client;
mod connection;
mod server;
mod service;
mod shared;

pub use client::{MESSAGE_LIMIT, client};
pub use server::EchoServer;

/// The generated messages, client and server of `proto/echo.proto`.
pub mod pb {
    #![allow(missing_docs, clippy::all, reason = "generated code")]

    tonic::include_proto!("callboard.echo.v1");
}
