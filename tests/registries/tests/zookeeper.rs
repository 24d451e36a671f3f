//! Over ZooKeeper.

use std::time::Duration;

use callboard_registry_tests::{churn, examples, four_questions, outage, rolling_restart};
use callboard_servers::Cluster;

/// The shortest session, so that a killed server is forgotten while the test looks on.
fn url(zookeeper: &Cluster) -> String {
    let hosts: Vec<_> = zookeeper.addresses().iter().map(ToString::to_string).collect();
    format!("zookeeper://{}/project/test?session=6s", hosts.join(","))
}

#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn a_server_comes_leaves_and_dies_and_one_client_follows() {
    let zookeeper = Cluster::zookeeper().start().await;
    four_questions(examples!(), &url(&zookeeper), 16).await;
}

#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn twenty_servers_restart_while_zookeeper_is_killed_and_paused() {
    let zookeeper = Cluster::zookeeper().start().await;
    churn(examples!(), &url(&zookeeper), &zookeeper, Duration::from_secs(60)).await;
}

#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn servers_are_replaced_one_after_the_other_and_no_call_is_lost() {
    let zookeeper = Cluster::zookeeper().start().await;
    rolling_restart(examples!(), &url(&zookeeper)).await;
}

#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn zookeeper_is_away_for_a_minute_and_wiped_and_no_call_is_lost() {
    let zookeeper = Cluster::zookeeper().start().await;
    outage(examples!(), &url(&zookeeper), &zookeeper).await;
}
