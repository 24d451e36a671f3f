#![doc = include_str!("../README.md")]

pub mod ask;
mod cluster;
mod conformance;
mod consul;
mod envoy;
mod etcd;
mod haproxy;
mod installed;
mod links;
mod nghttpx;
mod nginx;
mod node;
mod owner;
pub mod page;
mod plan;
mod process;
mod program;
mod server;
mod setup;
mod zookeeper;

pub use callboard_raw::{Mode, Port, Proxy};
pub use cluster::Cluster;
pub use node::Node;
pub use program::{Program, ProgramSetup};
pub use setup::Setup;
