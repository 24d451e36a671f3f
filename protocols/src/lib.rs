//! The protocols of gRPC beside the calls themselves: their messages, and their server side.
//!
//! | module | is |
//! |---|---|
//! | [`orca`] | load reports of servers to clients, in trailers and out of band: `xds.data.orca.v3`, `xds.service.orca.v3` |
//! | [`grpclb`] | external balancers: `grpc.lb.v1` |
//!
//! The messages are generated from the files in `proto/` and checked in, so this crate needs no `protoc` and no build
//! script. They match the wire format: a new field in a later version of a protocol is a new field here.
//!
//! tonic servers, with or without callboard's channels, use the types from here. The crate `callboard` re-exports them
//! as `callboard::load` and `callboard::lookaside`.

mod duration;
pub mod grpclb;
pub mod orca;

/// The README's code, compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
