//! The properties that every backend has, on one server that keeps its data over a restart.

mod agents;

use agents::Agents;
use callboard_servers::Cluster;

callboard_conformance::suite!(Agents::on(Cluster::consul().start().await), ignore = "needs Consul: make test");
