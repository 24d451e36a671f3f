#![doc = include_str!("../README.md")]

mod board;
mod config;
mod entry;
mod failure;
mod layout;
mod lease;
mod session;
mod sessions;
mod settings;
mod target;
mod tls;
mod watch;
mod zookeeper;

pub use settings::{ZooKeeperAccess, ZooKeeperBuilder};
pub use zookeeper::ZooKeeper;
