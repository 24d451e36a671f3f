//! The properties that every backend has, on three servers; registered with one and watched at another.

mod agents;

use agents::Agents;
use callboard_servers::Cluster;

callboard_conformance::suite!(Agents::on(Cluster::consul().nodes(3).start().await), ignore = "needs Consul: make test");
