//! Protocols of gRPC beside the calls themselves: their messages, and the servers' side of them.
//!
//! | module | is |
//! |---|---|
//! | [`orca`] | load reports of servers to clients, in trailers and out of band: `xds.data.orca.v3`, `xds.service.orca.v3` |
//! | [`grpclb`] | external balancers: `grpc.lb.v1` |
//!
//! The messages are generated from the files in `proto/` and checked in, so this needs no `protoc` and no build script.
//! They are the wire's: a field more in a later version of a protocol is a field more here.
//!
//! Servers of tonic's, with callboard's channels or without, take their parts from here, or from the crate `callboard`,
//! which has the same as `callboard::load` and `callboard::lookaside`.

mod duration;
pub mod grpclb;
pub mod orca;

/// The README's code, compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
