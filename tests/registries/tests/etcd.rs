//! Over etcd.

use std::time::Duration;

use callboard_registry_tests::{churn, examples, four_questions, outage, rolling_restart};
use callboard_servers::Cluster;

/// A short time to live, so that a killed server is forgotten while the test looks on.
fn url(etcd: &Cluster) -> String {
    let hosts: Vec<_> = etcd.addresses().iter().map(ToString::to_string).collect();
    format!("etcd://{}/project/test?ttl=5s", hosts.join(","))
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn a_server_comes_leaves_and_dies_and_one_client_follows() {
    let etcd = Cluster::etcd().start().await;
    four_questions(examples!(), &url(&etcd), 16).await;
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn twenty_servers_restart_while_etcd_is_killed_and_paused() {
    let etcd = Cluster::etcd().start().await;
    churn(examples!(), &url(&etcd), &etcd, Duration::from_secs(60)).await;
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn servers_are_replaced_one_after_the_other_and_no_call_is_lost() {
    let etcd = Cluster::etcd().start().await;
    rolling_restart(examples!(), &url(&etcd)).await;
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn etcd_is_away_for_a_minute_and_wiped_and_no_call_is_lost() {
    let etcd = Cluster::etcd().start().await;
    outage(examples!(), &url(&etcd), &etcd).await;
}
