//! Service discovery and client-side load balancing for gRPC with tonic.
//!
//! In a theatre, the callboard is where the company signs in and finds its calls. Here, servers register their
//! instances in a registry, and a client dials a service by name, once. It gets a [`Channel`] that its generated tonic
//! client accepts: calls are balanced over the registered instances, every change is followed, and no call is lost that
//! need not be lost.
//!
//! ```
//! use std::sync::Arc;
//! use callboard::{RegistrationSettings, Dialer, Instance, ServiceName, register, backend::Memory};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> callboard::Result<()> {
//! let memory = Memory::default();
//! let service: ServiceName = "project/test".parse()?;
//!
//! // A server, once it listens:
//! let instance = Instance::new("a", "127.0.0.1:50051".parse()?)?.with_weight(3);
//! let registration = register(Arc::new(memory.clone()), &service, instance, RegistrationSettings::default());
//!
//! // A client:
//! let dialer = Dialer::new().resolver("memory", memory);
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
//! | run a server that registers, deregisters and drains | [`serve`], [`Serve`], [`Serving`], [`Incoming`], [`guide::serving_and_draining`] |
//! | let handlers know that their server shuts down | [`Shutdown`] |
//! | run a server step by step | [`advertise_address`], [`registry`], [`register`], [`Registration`], [`Instance`] |
//! | watch the instances of a service, without calling them | [`resolver`], [`watch()`] |
//! | set how one call behaves | [`Timeout`], [`WaitForReady`], [`Idempotent`] |
//! | learn which server answered a call, or why the call failed | [`ServedBy`], [`Peer`], [`CallError`], [`guide::failures`] |
//! | add a token to each attempt | [`CallCredentials`] |
//! | choose a registry | [`backend`], [`guide::registries`] |
//! | choose how calls are shared out | [`balancer`], [`guide::balancing`] |
//! | report a server's load to its clients | [`load`], [`guide::load_reports`] |
//! | set deadlines, retries and the balancer in the registry | [`put_service_config`], [`ServiceConfig`], [`ConfigStatus`], [`guide::service_config_and_retries`] |
//! | encrypt the calls | `Tls`, [`ChannelBuilder`], [`guide::tls`] |
//! | write a backend for a registry | [`Registry`], [`Lease`], [`Resolver`], [`guide::writing_a_backend`] |
//! | write a balancer | [`Balancer`], [`Picker`], [`guide::writing_a_balancer`] |
//! | use an external balancer, or write one | [`lookaside`], [`guide::external_balancers`] |
//! | read logs, check readiness, change weights at run time | [`guide::operating`] |
//! | test your own service | [`guide::testing`] |
//! | move from tonic's channel | [`guide::coming_from_tonic`] |
//! | decide which rights to give in a registry | [`guide::who_may_write_what`] |
//!
//! # Features
//! A feature makes an item available and changes nothing else.
//!
//! | feature | gives | on by default |
//! |---|---|---|
//! | `memory` | `backend::Memory`: registry and resolver in one process | yes |
//! | `file` | `backend::FileRegistry`: a directory as registry for one machine, and the scheme `file://` | yes |
//! | `etcd` | `backend::Etcd`, and the scheme `etcd://` | |
//! | `zookeeper` | `backend::ZooKeeper`, and the scheme `zookeeper://` | |
//! | `zookeeper-tls` | TLS to ZooKeeper; it adds the dependency `aws-lc-rs` | |
//! | `consul` | `backend::Consul`, and the scheme `consul://` | |
//! | `pick-first` | `balancer::PickFirst` | yes |
//! | `round-robin` | `balancer::RoundRobin`, the default balancer | yes |
//! | `weighted` | `balancer::Weighted` and `balancer::WeightedRoundRobin` | yes |
//! | `tls` | `Tls`: TLS and mutual TLS with the servers, by rustls | |
//!
//! # Minimum Rust version
//! The same as tonic's: 1.88.
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
/// The rustls that [`Tls`] is made of, re-exported to name its types.
#[cfg(feature = "tls")]
pub use tokio_rustls::rustls;
#[cfg(feature = "tls")]
pub use transport::Tls;
#[cfg(fuzzing)]
#[doc(hidden)]
pub use transport::fuzzing as frames;
pub use transport::{Keepalive, TcpKeepalive};

/// The backends that are compiled in. Each needs its [feature](crate#features): `Etcd` needs `etcd`.
// Every backend has a module `fuzzing`, so the globs clash in fuzz targets.
#[cfg_attr(fuzzing, allow(ambiguous_glob_reexports))]
pub mod backend {
    // Each type is named once, so that the compiler can say which feature it needs.
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
