#![doc = include_str!("../README.md")]

pub mod ask;
mod cluster;
mod consul;
mod etcd;
mod installed;
mod links;
mod node;
mod owner;
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
