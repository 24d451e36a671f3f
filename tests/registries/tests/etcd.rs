//! Over etcd.

#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they share")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard::backend::Etcd;
use callboard::{Registry, Resolver};
use callboard_registry_tests::{
    Operator, churn, connections_of_many_services, examples, four_questions, hardship, outage, rolling_restart, tunnel,
};
use callboard_servers::Cluster;
use etcd_client::{Client, ConnectOptions, Permission, PermissionType};

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

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn many_services_by_url_are_one_connection() {
    let etcd = Cluster::etcd().start().await;
    let url = format!("etcd://{}/service?ttl=5s", etcd.address());
    assert_eq!(connections_of_many_services(&url, etcd.address()).await, 1);
}

/// An etcd that asks for passwords.
struct Guarded {
    etcd: Cluster,
    root: Client,
}

impl Guarded {
    async fn start() -> Self {
        let etcd = Cluster::etcd().start().await;
        let address = etcd.address().to_string();
        let mut client = Client::connect([&address], None).await.unwrap();
        for user in ["root", "server", "reader"] {
            client.user_add(user, "secret", None).await.unwrap();
            if user != "root" {
                client.role_add(user).await.unwrap();
            }
        }
        let all = |kind| Permission::new(kind, "/callboard/").with_prefix();
        client.role_grant_permission("server", all(PermissionType::Readwrite)).await.unwrap();
        client.role_grant_permission("reader", all(PermissionType::Read)).await.unwrap();
        for user in ["root", "server", "reader"] {
            client.user_grant_role(user, user).await.unwrap();
        }
        client.auth_enable().await.unwrap();
        let options = ConnectOptions::new().with_user("root", "secret");
        Self { root: Client::connect([address], Some(options)).await.unwrap(), etcd }
    }

    fn of(&self, user: &str) -> Arc<Etcd> {
        let builder = Etcd::builder([self.etcd.address().to_string()]).user(user, "secret");
        // An open watch goes on telling the truth when rights are taken away. That they are is seen by the next list.
        let builder = builder.relist(Duration::from_secs(1));
        Arc::new(builder.ttl(Duration::from_secs(5)).build().unwrap())
    }
}

#[async_trait]
impl Operator for Guarded {
    fn registry(&self) -> Arc<dyn Registry> {
        self.of("server")
    }

    fn resolver(&self) -> Arc<dyn Resolver> {
        self.of("reader")
    }

    fn observer(&self) -> Arc<dyn Resolver> {
        self.of("server")
    }

    async fn forbid_reading(&self) {
        self.root.auth_client().user_revoke_role("reader", "reader").await.unwrap();
    }

    async fn permit_reading(&self) {
        self.root.auth_client().user_grant_role("reader", "reader").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn what_is_registered_in_etcd_stays_registered() {
    let guarded = Guarded::start().await;
    hardship(&guarded, Duration::from_secs(7), Duration::from_secs(60)).await;
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn servers_behind_a_tunnel_neither_mislead_nor_end_each_other() {
    let etcd = Cluster::etcd().start().await;
    tunnel(examples!(), &url(&etcd)).await;
}
