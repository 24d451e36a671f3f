//! Watches whose token may not see the service, or may not any more: they are denied, and see no empty set.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they share")]

mod agents;

use std::collections::BTreeMap;
use std::time::Duration;

use agents::Agents;
use agents::guarded::OURS;
use callboard_conformance::{Harness, Seen, Watcher};
use callboard_core::{ErrorKind, Resolver, ServiceName};
use futures_util::StreamExt;
use serde_json::{Value, json};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

const ALL: &str = r#"service "project-test" { policy = "read" } node_prefix "" { policy = "read" }"#;
const NO_SERVICE: &str = r#"node_prefix "" { policy = "read" }"#;
const NO_NODE: &str = r#"service "project-test" { policy = "read" }"#;

fn project() -> ServiceName {
    "project-test".parse().unwrap()
}

/// An agent that permits what is needed, and an entry.
async fn guarded() -> Agents {
    let agents = Agents::guarded(ALL).await;
    register(&agents, "first").await;
    agents
}

async fn register(agents: &Agents, id: &str) {
    let body = json!({"ID": id, "Name": "project-test", "Address": format!("{id}.internal"), "Port": 80});
    agents.root("PUT", "/v1/agent/service/register", body).await;
}

async fn deregister(agents: &Agents, id: &str) {
    agents.root("PUT", &format!("/v1/agent/service/deregister/{id}"), Value::Null).await;
}

fn watcher(agents: &Agents) -> Watcher {
    Watcher::new(agents.resolver(), &project())
}

fn denied(seen: &Seen) -> bool {
    seen.stale.as_ref().is_some_and(|stale| stale.error.kind() == ErrorKind::Denied)
}

/// The set is kept, and is stale, until the token may see it again.
async fn a_right_is_taken_while_a_query_waits(without: &str) {
    let guarded = guarded().await;
    let watcher = watcher(&guarded);
    watcher.until_ids(SOON, "before", &["first"]).await;
    tokio::time::sleep(Duration::from_millis(300)).await; // so that a query waits in the agent
    guarded.permit(without).await;
    register(&guarded, "second").await;
    deregister(&guarded, "first").await;
    let seen = watcher.until(SOON, "stale, because denied", denied).await;
    assert_eq!((seen.ids(), seen.emptied), (vec!["first"], 0));
    let text = seen.stale.unwrap().error.to_string();
    assert!(text.contains("service:read") && text.contains("node:read"), "{text}");
    guarded.permit(ALL).await;
    let heard = |seen: &Seen| seen.ids() == ["second"] && seen.stale.is_none();
    assert_eq!(watcher.until(SOON, "what it may see again", heard).await.emptied, 0);
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_token_that_loses_the_service_while_a_query_waits_is_denied() {
    a_right_is_taken_while_a_query_waits(NO_SERVICE).await;
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_token_that_loses_the_nodes_while_a_query_waits_is_denied() {
    a_right_is_taken_while_a_query_waits(NO_NODE).await;
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_token_that_is_deleted_while_a_query_waits_is_denied() {
    let guarded = guarded().await;
    let watcher = watcher(&guarded);
    watcher.until_ids(SOON, "before", &["first"]).await;
    guarded.delete_the_token().await;
    let seen = watcher.until(SOON, "stale, because denied", denied).await;
    assert_eq!((seen.ids(), seen.emptied), (vec!["first"], 0));
}

/// A watch that begins without the right does not yield an empty set.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_token_that_may_not_see_a_service_gets_no_empty_set() {
    let guarded = guarded().await;
    for rules in [NO_SERVICE, NO_NODE] {
        guarded.permit(rules).await;
        let consul = guarded.builder().token(OURS).build().unwrap();
        let said = timeout(SOON, consul.watch(&project()).next()).await.unwrap().unwrap();
        let error = said.expect_err(rules);
        assert_eq!((error.kind(), error.service()), (ErrorKind::Denied, Some(&project())), "{rules}: {error:?}");
    }
    let nameless = guarded.consul();
    let error = timeout(SOON, nameless.watch(&project()).next()).await.unwrap().unwrap().expect_err("without a token");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
}

/// A token that may see a service without instances gets an empty set.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_service_that_may_be_seen_and_is_empty_is_empty() {
    let guarded = guarded().await;
    deregister(&guarded, "first").await;
    let watcher = watcher(&guarded);
    let empty = |seen: &Seen| seen.set.as_ref().is_some_and(BTreeMap::is_empty) && seen.stale.is_none();
    watcher.until(SOON, "empty", empty).await;
    // The right is lost while nobody is there: who comes then must not be missed without a word.
    guarded.permit(NO_SERVICE).await;
    watcher.until(SOON, "stale, because denied", denied).await;
}
