//! The words, the traits and the supervision of [callboard].
//!
//! callboard brings service discovery and client-side load balancing to tonic. This crate is what a **backend**
//! (something that knows where instances are) and a **balancer** (something that chooses one for a call) are written
//! against. It knows no HTTP/2, no tonic and no registry's client library.
//!
//! | to write | implement | then |
//! |---|---|---|
//! | a backend | [`Registry`] and [`Lease`], [`Resolver`], or only one side | [`register`] and [`watch`] supervise them |
//! | a balancer | [`Balancer`] and [`Picker`] | the channel calls them |
//!
//! The division of labour: **a backend makes one attempt, and this crate never gives up.** A backend fails at the first
//! doubt; retry, backoff, the last good set, grace periods and observable states are here, once, for all of them.
//!
//! [callboard]: https://docs.rs/callboard

mod address;
mod backoff;
mod balancer;
mod breaks;
mod endpoint;
mod error;
mod registration;

mod incarnation;
mod instance;
mod later;
mod load;
mod proto_duration;
mod record;
mod records;
mod registry;
mod registry_tls;
mod resolver;
mod service_config;
mod service_name;
mod short;
mod snapshot;
mod status;
mod target;
mod thread_number;
mod turns;
mod watcher;

pub use address::Address;
pub use backoff::{Backoff, BackoffState};
pub use balancer::{Balancer, Call, CallMetadata, Connect, Member, Members, Outcome, Pick, Picker};
pub use breaks::{Breaks, aside, drop_aside};
pub use endpoint::{ConnectivityState, Endpoint};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use incarnation::Incarnation;
pub use instance::{Instance, InstanceKind, MAX_WEIGHT, conflict};
pub use later::later;
pub use load::{Load, LoadReport};
pub use proto_duration::{deserialize_proto_duration, proto_duration};
pub use record::{decode, encode};
pub use records::{Record, RecordReader, Remark, holder, unbelieved};
pub use registration::{Registration, RegistrationSettings, RegistrationState, register};
pub use registry::{Lease, Registry};
pub use registry_tls::{RegistryPems, RegistryTls};
pub use resolver::{Resolver, Snapshots};
pub use service_config::{
    BalancerSettings, CONFIG_NAME, MethodConfig, PolicyConfig, RetryPolicy, RetryThrottling, ServiceConfig,
    put_service_config,
};
pub use service_name::ServiceName;
pub use short::short;
pub use snapshot::Snapshot;
pub use status::{Code, Status};
pub use target::{Target, TargetOptions, masked_url};
/// The clock of everything here, which a test can pause.
pub use tokio::time::Instant;
pub use turns::Turns;
pub use watcher::{Resolution, Stale, WatchSettings, Watcher, watch};
