//! Agents that permit nothing without a token.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard_conformance::Rights;
use callboard_consul::ConsulBuilder;
use callboard_core::Resolver;
use callboard_servers::{Cluster, ask};
use serde_json::{Value, json};

use super::Agents;

/// May do everything.
pub(crate) const ROOT: &str = "6a1253d2-1785-24fd-91c2-f8e78c745511";
/// May do what its policy says, which can be changed.
pub(crate) const OURS: &str = "45a3bd52-07c7-47a4-52fd-0745e0cfe967";
/// A query that waits is asked for so long where rights are taken away, so that the tests need not wait for longer.
const WAIT: Duration = Duration::from_secs(2);

/// Where the policy and the token are.
#[derive(Debug)]
pub(crate) struct Guard {
    policy: String,
    token: String,
}

impl Agents {
    /// A development agent, and [`OURS`] with these rules.
    pub(crate) async fn guarded(rules: &str) -> Self {
        let acl = format!(
            r#"acl {{ enabled = true, default_policy = "deny", tokens {{ initial_management = "{ROOT}", agent = "{ROOT}" }} }}"#
        );
        let mut agents = Self::on_dev(Cluster::consul_dev().config(acl).token(ROOT).start().await);
        let policy = agents.root("PUT", "/v1/acl/policy", json!({"Name": "ours", "Rules": rules})).await;
        let token = json!({"SecretID": OURS, "Policies": [{"Name": "ours"}]});
        let token = agents.root("PUT", "/v1/acl/token", token).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (policy, token) = (text(&policy["ID"]), text(&token["AccessorID"]));
        agents.guard =
            Some(Guard { policy: format!("/v1/acl/policy/{policy}"), token: format!("/v1/acl/token/{token}") });
        agents
    }

    fn guard(&self) -> &Guard {
        self.guard.as_ref().expect("these agents are guarded")
    }

    /// A request that must succeed, of who may do everything.
    pub(crate) async fn root(&self, method: &str, path: &str, body: Value) -> Value {
        let token = format!("X-Consul-Token: {ROOT}");
        let answer = ask::http(self.cluster.address(), method, path, &[&token], body.to_string()).await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        serde_json::from_str(&answer.body).unwrap_or_default()
    }

    /// From now on, these rules and no others.
    pub(crate) async fn permit(&self, rules: &str) {
        self.root("PUT", &self.guard().policy, json!({"Name": "ours", "Rules": rules})).await;
    }

    pub(crate) async fn delete_the_token(&self) {
        self.root("DELETE", &self.guard().token, Value::Null).await;
    }

    /// With the token of a server, where one is needed.
    pub(super) fn registering(&self, builder: ConsulBuilder) -> ConsulBuilder {
        if self.guard.is_some() { builder.token(ROOT) } else { builder }
    }

    /// With the token of a client, likewise.
    pub(super) fn watching(&self, builder: ConsulBuilder) -> ConsulBuilder {
        if self.guard.is_some() { builder.token(OURS).wait(WAIT) } else { builder }
    }
}

#[async_trait]
impl Rights for Agents {
    async fn forbid_reading(&self) {
        self.permit(r#"node_prefix "" { policy = "read" }"#).await;
    }

    async fn permit_reading(&self) {
        self.permit(r#"service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }"#).await;
    }

    fn observer(&self) -> Arc<dyn Resolver> {
        Arc::new(self.builder().token(ROOT).build().unwrap())
    }
}
