//! What an operator or another tool has put on an entry, and what its own checks have found.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they share")]

mod agents;

use std::time::Duration;

use agents::{Agents, get};
use callboard_conformance::Harness;
use callboard_consul::ConsulGrpcCheck;
use callboard_core::{Incarnation, Instance, RegistrationSettings, Registry, ServiceName, register};
use callboard_servers::Cluster;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};
use tokio_stream::wrappers::TcpListenerStream;
use tonic_health::ServingStatus;

const SOON: Duration = Duration::from_secs(20);
const ENTRY: &str = "project-test:a";

fn project() -> ServiceName {
    "project-test".parse().unwrap()
}

fn instance(incarnation: u64) -> Instance {
    Instance::new("a", "127.0.0.1:1".parse().unwrap()).unwrap().with_incarnation(Incarnation::from_micros(incarnation))
}

async fn dev() -> Agents {
    Agents::on(Cluster::consul_dev().start().await)
}

/// The checks of the entry as its agent holds them: each id with its status.
async fn checks(agents: &Agents) -> Vec<(String, String)> {
    let body = get(agents.cluster.address(), "/v1/agent/checks").await;
    let held: Value = serde_json::from_str(&body).unwrap();
    let ours = held.as_object().unwrap().values().filter(|check| check["ServiceID"] == ENTRY);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    ours.map(|check| (text(&check["CheckID"]), text(&check["Status"]))).collect()
}

async fn until_checks(agents: &Agents, what: &str, expected: impl Fn(&[(String, String)]) -> bool) {
    let give_up = Instant::now() + SOON;
    loop {
        let now = checks(agents).await;
        if expected(&now) {
            return;
        }
        assert!(Instant::now() < give_up, "{what}: {now:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn switch_maintenance_on(agents: &Agents) {
    agents.put(&format!("/v1/agent/service/maintenance/{ENTRY}?enable=true&reason=by+hand"), "").await;
    agents.put("/v1/agent/maintenance?enable=true&reason=by+hand", "").await;
    let extra = format!(r#"{{"ID":"disk","Name":"disk","ServiceID":"{ENTRY}","TTL":"1h","Status":"passing"}}"#);
    agents.put("/v1/agent/check/register", &extra).await;
}

async fn is_in_maintenance(agents: &Agents, what: &str) {
    let (now, all) = (checks(agents).await, get(agents.cluster.address(), "/v1/agent/checks").await);
    let has = |id: &str, status: &str| now.iter().any(|(there, is)| there == id && is == status);
    assert!(has(&format!("_service_maintenance:{ENTRY}"), "critical"), "{what}: maintenance is off: {now:?}");
    assert!(has("disk", "passing"), "{what}: another tool's check is gone: {now:?}");
    assert!(all.contains("_node_maintenance"), "{what}: the node's maintenance is off: {all}");
    let ours = now.iter().filter(|(id, _)| id.starts_with("callboard")).count();
    assert_eq!(ours, 1, "{what}: {now:?}");
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn maintenance_and_others_checks_stay_through_an_update() {
    let agents = dev().await;
    let mut lease = agents.consul().register(&project(), &instance(5)).await.unwrap();
    switch_maintenance_on(&agents).await;
    lease.update(&instance(5).with_weight(7)).await.unwrap();
    is_in_maintenance(&agents, "after an update").await;
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn maintenance_and_others_checks_stay_when_the_entry_is_registered_again() {
    let agents = dev().await;
    let owner = register(agents.registry(), &project(), instance(5), RegistrationSettings::default());
    owner.wait_registered(SOON).await.unwrap();
    switch_maintenance_on(&agents).await;
    let first = checks(&agents).await.into_iter().find(|(id, _)| id.starts_with("callboard")).unwrap().0;
    agents.put(&format!("/v1/agent/check/deregister/{first}"), "").await;
    until_checks(&agents, "registered again", |now| {
        now.iter().any(|(id, status)| id.starts_with("callboard:") && *id != first && status == "passing")
    })
    .await;
    is_in_maintenance(&agents, "after a lost check").await;
    // A newer incarnation takes over the entry, and what others say of it.
    let _newer = agents.consul().register(&project(), &instance(6)).await.unwrap();
    is_in_maintenance(&agents, "after a newer incarnation").await;
}

/// The agent asks seldom, so that what is seen is what was registered and not what it has found since.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_server_that_does_not_serve_is_not_passing_because_it_is_registered_again() {
    let agents = dev().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (health, health_service) = tonic_health::server::health_reporter();
    let server = tonic::transport::Server::builder().add_service(health_service);
    let serving = tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    health.set_service_status("", ServingStatus::NotServing).await;
    let wanted = Instance::new("a", address.parse().unwrap()).unwrap().with_incarnation(Incarnation::from_micros(5));
    let grpc = |now: &[(String, String)]| now.iter().find(|(id, _)| id.starts_with("callboard-grpc:")).cloned();

    let every = Duration::from_secs(2);
    let consul = agents.builder().grpc_check(ConsulGrpcCheck::default().every(every)).build().unwrap();
    let _first = consul.register(&project(), &wanted).await.unwrap();
    until_checks(&agents, "asked", |now| grpc(now).is_some_and(|(_, status)| status == "critical")).await;
    let _second = consul.register(&project(), &wanted).await.unwrap();
    assert_eq!(grpc(&checks(&agents).await).unwrap().1, "critical", "beside its former entry");

    agents.put(&format!("/v1/agent/service/deregister/{ENTRY}"), "").await;
    let _third = consul.register(&project(), &wanted).await.unwrap();
    assert_eq!(grpc(&checks(&agents).await).unwrap().1, "critical", "where nothing is left of it");

    // Another process is another server: it says of itself that it is there.
    let _newer =
        consul.register(&project(), &wanted.clone().with_incarnation(Incarnation::from_micros(6))).await.unwrap();
    assert_eq!(grpc(&checks(&agents).await).unwrap().1, "passing", "a newer incarnation");
    serving.abort();
}
