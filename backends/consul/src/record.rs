//! How an instance looks in Consul, in Consul's own fields.

mod checks;
mod duration;
mod entry;
mod meta;
mod names;
mod stored;
mod tags;
mod weights;

pub use checks::ConsulGrpcCheck;
pub(crate) use checks::{Checks, grpc_check_id, is_check_of, ttl_check_id};
pub(crate) use duration::millis;
pub(crate) use entry::Entry;
pub(crate) use meta::CLAIM;
#[cfg(fuzzing)]
pub(crate) use names::instance_id;
pub(crate) use names::{entry_id, listed_name};
pub(crate) use stored::{HeldEntry, ListedEntry, StoredService};
pub(crate) use tags::Tags;
