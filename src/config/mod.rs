//! The service config of a channel: which one is active, and what it says of calls and of balancing.

mod active;
mod balancers;
mod names;
mod rules;
mod throttle;

pub(crate) use self::active::ActiveConfig;
pub use self::active::ConfigStatus;
pub(crate) use self::balancers::{Balancers, MakeBalancer};
pub(crate) use self::names::{Known, Names};
pub(crate) use self::rules::Rules;
pub(crate) use self::throttle::Throttle;
