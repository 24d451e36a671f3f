//! Over Consul.

#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they share")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard::backend::Consul;
use callboard::{Registry, Resolver};
use callboard_registry_tests::{Operator, churn, examples, four_questions, hardship, outage, rolling_restart, tunnel};
use callboard_servers::{Cluster, ask};

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

const ROOT: &str = "6a1253d2-1785-24fd-91c2-f8e78c745511";
const SERVER: &str = "45a3bd52-07c7-47a4-52fd-0745e0cfe967";
const READER: &str = "5b1c8d0e-9d1f-4c53-8a52-20e6a0c9d7b4";

/// An agent that permits nothing without a token.
struct Guarded {
    consul: Cluster,
}

impl Guarded {
    async fn start() -> Self {
        let acl = format!(
            r#"acl {{ enabled = true, default_policy = "deny", tokens {{ initial_management = "{ROOT}", agent = "{ROOT}" }} }}"#
        );
        let guarded = Self { consul: Cluster::consul_dev().config(acl).token(ROOT).start().await };
        for (name, token, right) in [("server", SERVER, "write"), ("reader", READER, "read")] {
            let rules =
                format!(r#"service_prefix \"\" {{ policy = \"{right}\" }} node_prefix \"\" {{ policy = \"read\" }}"#);
            guarded.put("/v1/acl/policy", &format!(r#"{{"Name":"{name}","Rules":"{rules}"}}"#)).await;
            let token = format!(r#"{{"SecretID":"{token}","AccessorID":"{token}","Policies":[{{"Name":"{name}"}}]}}"#);
            guarded.put("/v1/acl/token", &token).await;
        }
        guarded
    }

    async fn put(&self, path: &str, body: &str) {
        let token = format!("X-Consul-Token: {ROOT}");
        let answer = ask::http(self.consul.address(), "PUT", path, &[&token], body).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    async fn reader_has(&self, policies: &str) {
        let token = format!(r#"{{"SecretID":"{READER}","AccessorID":"{READER}","Policies":[{policies}]}}"#);
        self.put(&format!("/v1/acl/token/{READER}"), &token).await;
    }

    fn of(&self, token: &str) -> Arc<Consul> {
        let builder = Consul::builder().address(self.consul.address().to_string()).token(token);
        Arc::new(builder.ttl(Duration::from_secs(5)).build().unwrap())
    }
}

#[async_trait]
impl Operator for Guarded {
    fn registry(&self) -> Arc<dyn Registry> {
        self.of(SERVER)
    }

    fn resolver(&self) -> Arc<dyn Resolver> {
        self.of(READER)
    }

    fn observer(&self) -> Arc<dyn Resolver> {
        self.of(SERVER)
    }

    async fn forbid_reading(&self) {
        self.reader_has("").await;
    }

    async fn permit_reading(&self) {
        self.reader_has(r#"{"Name":"reader"}"#).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Consul: make test"]
async fn what_is_registered_in_consul_stays_registered() {
    let guarded = Guarded::start().await;
    hardship(&guarded, Duration::from_secs(5), Duration::from_secs(60)).await;
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn servers_behind_a_tunnel_neither_mislead_nor_end_each_other() {
    let consul = Cluster::consul().start().await;
    tunnel(examples!(), &url(&consul)).await;
}
