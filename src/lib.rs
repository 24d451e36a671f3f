//! Service discovery and client-side load balancing for gRPC with tonic.
//!
//! In a theatre, the callboard is where the company signs in and finds its calls. Servers sign in on the board; a client
//! dials a service by name, once, and gets a [`Channel`] that its generated tonic client accepts: balanced over whoever
//! is signed in, following every change, and losing no call that need not be lost.
//!
//! ```
//! use std::sync::Arc;
//! use callboard::{RegistrationSettings, Dialer, Instance, ServiceName, register, backend::Memory};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> callboard::Result<()> {
//! let board = Memory::default();
//! let service: ServiceName = "project/test".parse()?;
//!
//! // A server, once it listens:
//! let instance = Instance::new("a", "127.0.0.1:50051".parse()?)?.with_weight(3);
//! let registration = register(Arc::new(board.clone()), &service, instance, RegistrationSettings::default());
//!
//! // A client:
//! let dialer = Dialer::new().resolver("memory", board);
//! let channel = dialer.dial("memory:///project/test?balancer=weighted").await?;
//! // let mut client = HelloServiceClient::new(channel);
//!
//! // The server again, before it stops:
//! registration.deregister().await?;
//! # Ok(()) }
//! ```
//!
//! # Where to find what
//! | you want to | look at |
//! |---|---|
//! | call a service | [`dial`], [`channel()`], [`Dialer`], [`Channel`], [`ChannelBuilder`] |
//! | run a server that signs in, drains and leaves | [`serve`], [`Serve`], [`Serving`], [`Incoming`] |
//! | let handlers hear that their server shuts down | [`Shutdown`] |
//! | do that step by step | [`advertise_address`], [`registry`], [`register`], [`Registration`], [`Instance`] |
//! | see who is signed in, without calling | [`resolver`], [`watch()`] |
//! | say how one call behaves | [`Timeout`], [`WaitForReady`], [`Idempotent`] |
//! | learn who served a call, or why it failed | [`ServedBy`], [`Peer`], [`CallError`] |
//! | add a token to each attempt | [`CallCredentials`] |
//! | choose a registry | [`backend`] |
//! | choose how calls are shared out | [`balancer`] |
//! | report a server's load to its clients | [`load`] |
//! | let a service say how it is to be called | [`put_service_config`], [`ServiceConfig`], [`ConfigStatus`] |
//! | write a registry's backend | [`Registry`], [`Lease`], [`Resolver`] |
//! | write a balancer | [`Balancer`], [`Picker`] |
//! | let an external balancer decide, or write one | [`lookaside`] |
//! | come from tonic's channel | [`guide::coming_from_tonic`] |
//! | decide who may write to a registry | [`guide::who_may_write_what`] |
//!
//! # Features
//! A feature makes something nameable and changes nothing else.
//!
//! | feature | gives | on by default |
//! |---|---|---|
//! | `memory` | `backend::Memory`: registry and resolver in one process | yes |
//! | `file` | `backend::FileRegistry`: a directory as registry for one machine, and the scheme `file://` | yes |
//! | `etcd` | `backend::Etcd`, and the scheme `etcd://` | |
//! | `zookeeper` | `backend::ZooKeeper`, and the scheme `zookeeper://` | |
//! | `zookeeper-tls` | TLS to ZooKeeper, which brings `aws-lc-rs` along | |
//! | `consul` | `backend::Consul`, and the scheme `consul://` | |
//! | `pick-first` | `balancer::PickFirst` | yes |
//! | `round-robin` | `balancer::RoundRobin`, the balancer of a channel that names none | yes |
//! | `weighted` | `balancer::Weighted` | yes |
//! | `tls` | `Tls`: TLS and mutual TLS with the servers, by rustls | |
//!
//! # Minimum Rust version
//! tonic's: 1.88.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod call;
mod channel;
mod config;
mod control;
mod dial;
mod features;
mod grpc;
pub mod guide;
pub mod load;
pub mod lookaside;
mod serve;
mod transport;

pub use builder::ChannelBuilder;
pub use call::{Idempotent, Peer, ServedBy, WaitForReady};
pub use callboard_core::*;
pub use channel::Channel;
pub use config::ConfigStatus;
pub use control::EndpointStatus;
pub use dial::{Dialer, Resolved, channel, dial, put_service_config, registry, resolver};
pub use grpc::{CallCredentials, CallError, Phase, RequestInfo, Timeout};
pub use serve::{EndStreams, Incoming, LaterSignal, Listener, Serve, Serving, Shutdown, advertise_address, serve};
/// The rustls that [`Tls`] is made of, to name its types.
#[cfg(feature = "tls")]
pub use tokio_rustls::rustls;
#[cfg(feature = "tls")]
pub use transport::Tls;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use transport::fuzzing as frames;
pub use transport::{Keepalive, TcpKeepalive};

/// The registries that are compiled in: each is here with its [feature](crate#features), `Etcd` with `etcd`.
// Each has its own of what fuzz targets reach.
#[cfg_attr(fuzzing, allow(ambiguous_glob_reexports))]
pub mod backend {
    // Each is named once, so that the compiler can say which feature would bring it.
    #[cfg(feature = "consul")]
    pub use callboard_consul::Consul;
    #[cfg(feature = "consul")]
    pub use callboard_consul::*;
    #[cfg(feature = "etcd")]
    pub use callboard_etcd::Etcd;
    #[cfg(feature = "etcd")]
    pub use callboard_etcd::*;
    #[cfg(feature = "file")]
    pub use callboard_file::FileRegistry;
    #[cfg(feature = "file")]
    pub use callboard_file::*;
    #[cfg(feature = "memory")]
    pub use callboard_memory::Memory;
    #[cfg(feature = "memory")]
    pub use callboard_memory::*;
    #[cfg(feature = "zookeeper")]
    pub use callboard_zookeeper::ZooKeeper;
    #[cfg(feature = "zookeeper")]
    pub use callboard_zookeeper::*;
}

/// The balancers that are compiled in.
pub mod balancer {
    #[cfg(feature = "pick-first")]
    pub use callboard_pick_first::*;
    #[cfg(feature = "round-robin")]
    pub use callboard_round_robin::*;
    #[cfg(feature = "weighted")]
    pub use callboard_weighted::*;
}

/// The README's code, compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
