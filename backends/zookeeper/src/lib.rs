#![doc = include_str!("../README.md")]

mod board;
mod claims;
mod config;
mod entry;
mod failure;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod known;
mod layout;
mod lease;
mod session;
mod sessions;
mod settings;
mod siblings;
mod size;
mod target;
mod tls;
mod watch;
mod zookeeper;

pub use settings::{ZooKeeperAccess, ZooKeeperBuilder};
pub use zookeeper::ZooKeeper;
