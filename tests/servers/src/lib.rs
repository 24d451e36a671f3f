//! Real servers for tests: etcd, ZooKeeper and Consul, on free ports of 127.0.0.1, and what can happen to them.

pub mod ask;
mod cluster;
mod consul;
mod etcd;
mod installed;
mod node;
mod plan;
mod process;
mod program;
mod server;
mod setup;
mod zookeeper;

pub use callboard_raw::{Mode, Port, Proxy};
pub use cluster::Cluster;
pub use node::Node;
pub use program::Program;
pub use setup::Setup;
