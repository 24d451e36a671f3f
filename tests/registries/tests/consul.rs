//! Over Consul.

use std::time::Duration;

use callboard_registry_tests::{churn, examples, four_questions, outage, rolling_restart};
use callboard_servers::Cluster;

/// A short time to live, so that a killed server is forgotten while the test looks on.
fn url(consul: &Cluster) -> String {
    format!("consul://{}/project/test?ttl=5s", consul.address())
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_server_comes_leaves_and_dies_and_one_client_follows() {
    let consul = Cluster::consul().start().await;
    four_questions(examples!(), &url(&consul), 16).await;
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn twenty_servers_restart_while_consul_is_killed_and_paused() {
    let consul = Cluster::consul().start().await;
    churn(examples!(), &url(&consul), &consul, Duration::from_secs(60)).await;
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn servers_are_replaced_one_after_the_other_and_no_call_is_lost() {
    let consul = Cluster::consul().start().await;
    rolling_restart(examples!(), &url(&consul)).await;
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn consul_is_away_for_a_minute_and_wiped_and_no_call_is_lost() {
    let consul = Cluster::consul().start().await;
    outage(examples!(), &url(&consul), &consul).await;
}
