//! The properties that every backend has, on a development agent, which loses everything at a restart.

mod agents;

use agents::Agents;
use callboard_servers::Cluster;

callboard_conformance::suite!(Agents::on_dev(Cluster::consul_dev().start().await), ignore = "needs Consul: make test");

callboard_conformance::suite_of_rights!(
    Agents::guarded(r#"service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }"#).await,
    ignore = "needs Consul: make test"
);
