#![doc = include_str!("../README.md")]

mod builder;
mod client;
mod config;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod lease;
mod record;
mod registry;
mod url;
mod watch;

pub use self::builder::{ZooKeeperAccess, ZooKeeperBuilder};
pub use self::registry::ZooKeeper;
