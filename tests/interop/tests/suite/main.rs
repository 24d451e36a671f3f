//! gRPC's interoperability cases by a client over callboard's channel, against tonic's server and grpc-go's, and HTTP/2's
//! negative cases against a server made of frames. What each case did is printed in a table.
//!
//! Tests that need Go have `grpc_go` in their names.

// What the tests share fails them, as they do themselves.
#![allow(unreachable_pub, clippy::unwrap_used)]

#[path = "../../../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "../../../common/grpc_go.rs"]
mod grpc_go;

mod cases;
mod client;
mod fleet;
mod http2;
mod matrix;
mod restarts;
mod table;
mod windows;
