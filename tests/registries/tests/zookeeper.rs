//! Over ZooKeeper.

#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they share")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard::backend::ZooKeeper;
use callboard::{Registry, Resolver};
use callboard_registry_tests::{
    Operator, churn, connections_of_many_services, examples, four_questions, hardship, outage, rolling_restart, tunnel,
};
use callboard_servers::Cluster;
use zookeeper_client::{Acl, AuthId, Client, Permission};

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

#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn many_services_by_url_are_one_connection() {
    let zookeeper = Cluster::zookeeper().start().await;
    let url = format!("zookeeper://{}/service?session=6s", zookeeper.address());
    assert_eq!(connections_of_many_services(&url, zookeeper.address()).await, 1);
}

const SESSION: Duration = Duration::from_secs(6);
const DIRECTORY: &str = "/callboard/project/test";

/// A ZooKeeper of which everybody may read what is registered, or only one user.
struct Guarded {
    zookeeper: Cluster,
}

impl Guarded {
    fn of(&self, user: &str) -> Arc<ZooKeeper> {
        let builder = ZooKeeper::builder([self.zookeeper.address().to_string()]).session(SESSION);
        Arc::new(if user.is_empty() { builder } else { builder.digest(user, "secret") }.build().unwrap())
    }

    async fn permit(&self, everybody: Permission) {
        let hand = Client::connector().with_auth("digest", b"observer:secret");
        let hand = hand.connect(&self.zookeeper.address().to_string()).await.unwrap();
        let observer = Acl::new(Permission::ALL, AuthId::new("auth", ""));
        hand.set_acl(DIRECTORY, &[observer, Acl::new(everybody, AuthId::anyone())], None).await.unwrap();
    }
}

#[async_trait]
impl Operator for Guarded {
    fn registry(&self) -> Arc<dyn Registry> {
        self.of("")
    }

    fn resolver(&self) -> Arc<dyn Resolver> {
        self.of("")
    }

    fn observer(&self) -> Arc<dyn Resolver> {
        self.of("observer")
    }

    async fn forbid_reading(&self) {
        self.permit(Permission::CREATE | Permission::WRITE | Permission::DELETE).await;
    }

    async fn permit_reading(&self) {
        self.permit(Permission::ALL).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn what_is_registered_in_zookeeper_stays_registered() {
    let guarded = Guarded { zookeeper: Cluster::zookeeper().start().await };
    hardship(&guarded, 2 * SESSION, Duration::from_secs(60)).await;
}

#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn servers_behind_a_tunnel_neither_mislead_nor_end_each_other() {
    let zookeeper = Cluster::zookeeper().start().await;
    tunnel(examples!(), &url(&zookeeper)).await;
}
