//! callboard behind real proxies: nginx, HAProxy, nghttpx and Envoy, as people have them in front of gRPC servers. And
//! with servers that do by themselves what proxies do: end connections.
//!
//! Each case prints a row of one table: what was called, what failed, how many connections that took. What the proxies do,
//! and which of their settings matter, is in `docs/decisions/behind-proxies.md`.
//!
//! To see how much of it is the proxy's doing, the same cases run with another client, and then hold nothing and only
//! print: `CALLBOARD_PROXY_CLIENT=tonic` is tonic's own channel, `CALLBOARD_PROXY_CLIENT=grpc-go` is grpc-go's.
#![allow(clippy::unwrap_used, reason = "what the tests share fails them, as they do themselves")]

mod callers;
mod cases;
mod client;
mod go;
mod load;
mod old_age;
mod scene;
mod table;
mod tally;

pub use cases::{calls, crowd, death, idle, idle_unannounced, limit, reload, servers_gone, slow_servers};
pub use old_age::{grpc_go, tonic};
