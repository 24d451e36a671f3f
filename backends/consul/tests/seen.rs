//! What is watched: entries of any tool, as they are and as they change.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they share")]

mod agents;

use std::time::Duration;

use agents::{Agents, put};
use callboard_conformance::{Harness, Seen, Watcher};
use callboard_consul::{Consul, ConsulBuilder, ConsulGrpcCheck};
use callboard_core::{ErrorKind, Incarnation, Instance, Registry, Resolver, ServiceName};
use callboard_servers::Cluster;
use futures_util::StreamExt;
use std::sync::Arc;
use tokio_stream::wrappers::TcpListenerStream;
use tonic_health::ServingStatus;

const SOON: Duration = Duration::from_secs(20);
const REGISTER: &str = "/v1/agent/service/register";

fn project() -> ServiceName {
    "project-test".parse().unwrap()
}

fn instance(id: &str, address: &str) -> Instance {
    Instance::new(id, address.parse().unwrap()).unwrap()
}

async fn dev() -> Agents {
    Agents::on(Cluster::consul_dev().start().await)
}

fn watcher(builder: ConsulBuilder) -> Watcher {
    Watcher::new(Arc::new(builder.build().unwrap()), &project())
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn plain_entries_are_read_as_they_are() {
    let agents = dev().await;
    for body in [
        r#"{"ID":"web-1","Name":"project-test","Address":"10.0.0.7","Port":80,"Tags":["v2"],
            "Meta":{"zone":"eu-1","version":"2"},"Weights":{"Passing":7,"Warning":1}}"#,
        r#"{"ID":"bare","Name":"project-test","Port":81}"#,
        r#"{"ID":"no id of ours/1","Name":"project-test","Address":"10.0.0.8","Port":82}"#,
        r#"{"ID":"nowhere","Name":"project-test","Address":"10.0.0.9"}"#,
        r#"{"ID":"failing","Name":"project-test","Port":83,"Check":{"TTL":"1m"}}"#,
    ] {
        agents.put(REGISTER, body).await;
    }
    let seen = watcher(agents.builder()).until_ids(SOON, "as they are", &["10.0.0.8:82", "bare", "web-1"]).await;
    let long_ago = Incarnation::from_micros(0);
    let web = instance("web-1", "10.0.0.7:80")
        .with_weight(7)
        .with_zone("eu-1")
        .with_metadata("version", "2")
        .with_incarnation(long_ago);
    assert_eq!(**seen.instance("web-1").unwrap(), web);
    assert_eq!(**seen.instance("bare").unwrap(), instance("bare", "127.0.0.1:81").with_incarnation(long_ago));
    assert_eq!(seen.skipped, 1);
}

/// A name that is given once on each node, as many tools do.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn one_plain_id_on_two_nodes_is_two_instances() {
    let agents = Agents::on(Cluster::consul().nodes(3).start().await);
    for (node, port) in [(0, 81), (1, 82)] {
        put(agents.cluster.node(node).address(), REGISTER, &format!(r#"{{"Name":"project-test","Port":{port}}}"#))
            .await;
    }
    watcher(agents.builder()).until_ids(SOON, "both", &["n1:project-test", "n2:project-test"]).await;
}

/// An instance that has moved to another host, while its former entry has not gone yet.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn of_one_instance_on_two_agents_the_newer_incarnation_is_seen() {
    let agents = Agents::on(Cluster::consul().nodes(3).start().await);
    let watcher = watcher(agents.builder());
    let mut leases = Vec::new();
    for (node, incarnation) in [(0, 5), (1, 7), (2, 6)] {
        let consul = Consul::builder().address(agents.cluster.node(node).address().to_string()).build().unwrap();
        let wanted =
            instance("a", &format!("127.0.0.1:{incarnation}")).with_incarnation(Incarnation::from_micros(incarnation));
        leases.push(consul.register(&project(), &wanted).await.unwrap());
        let newest = incarnation.max(if node == 2 { 7 } else { 0 });
        let right =
            |seen: &Seen| seen.ids() == ["a"] && seen.instance("a").unwrap().incarnation().as_micros() == newest;
        watcher.until(SOON, "the newest", right).await;
    }
    leases.remove(1).revoke().await.unwrap();
    let older = |seen: &Seen| seen.instance("a").is_some_and(|a| a.incarnation().as_micros() == 6);
    watcher.until(SOON, "the one that is left", older).await;
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_weight_that_another_tool_changes_is_seen_in_place() {
    let agents = dev().await;
    let (watcher, consul) = (watcher(agents.builder()), agents.consul());
    let mut lease = consul.register(&project(), &instance("ours", "10.0.0.7:80").with_weight(0)).await.unwrap();
    let plain = |weight: u32| {
        format!(
            r#"{{"ID":"plain","Name":"project-test","Address":"10.0.0.8","Port":80,"Weights":{{"Passing":{weight},"Warning":1}}}}"#
        )
    };
    agents.put(REGISTER, &plain(1)).await;
    watcher.until_ids(SOON, "both", &["ours", "plain"]).await;
    for weight in [5, 9] {
        agents.put(REGISTER, &plain(weight)).await;
        // As a tool does that reads an entry, changes it and writes it back.
        let mut ours = agents
            .listed("project-test")
            .await
            .as_array()
            .unwrap()
            .iter()
            .find(|row| row["Service"]["ID"] == "project-test:ours")
            .unwrap()["Service"]
            .clone();
        ours["Weights"]["Passing"] = weight.into();
        let body = serde_json::json!({"ID": ours["ID"], "Name": ours["Service"], "Address": ours["Address"], "Port": ours["Port"], "Meta": ours["Meta"], "Weights": ours["Weights"]});
        agents.put(REGISTER, &body.to_string()).await;
        let changed = |seen: &Seen| {
            ["ours", "plain"].iter().all(|id| seen.instance(id).is_some_and(|instance| instance.weight() == weight))
        };
        let seen = watcher.until(SOON, "the new weights", changed).await;
        assert_eq!(seen.emptied, 0);
    }
    // The lease goes on; what its owner says next counts.
    lease.update(&instance("ours", "10.0.0.7:80").with_weight(3)).await.unwrap();
    watcher.until(SOON, "the owner's", |seen| seen.instance("ours").is_some_and(|ours| ours.weight() == 3)).await;
    let held = tokio::time::timeout(agents.bounds().expiry, lease.lost()).await;
    assert!(held.is_err(), "{held:?}");
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn what_is_watched_can_be_narrowed_and_widened() {
    let agents = dev().await;
    for (id, tags, check) in [
        ("one", r#"["v1"]"#, ""),
        ("two", r#"["v1","blue"]"#, ""),
        ("ill", r#"["v1","blue"]"#, r#","Check":{"TTL":"1m"}"#),
    ] {
        agents.put(REGISTER, &format!(r#"{{"ID":"{id}","Name":"project-test","Port":{},"Tags":{tags},"Meta":{{"number":"{id}"}}{check}}}"#, id.as_bytes()[0])).await;
    }
    let builder = || agents.builder();
    watcher(builder()).until_ids(SOON, "all that pass", &["one", "two"]).await;
    watcher(builder().tag("v1").tag("blue")).until_ids(SOON, "both tags", &["two"]).await;
    watcher(builder().filter(r#"Service.Meta.number == "one""#)).until_ids(SOON, "filter", &["one"]).await;
    watcher(builder().only_passing(false)).until_ids(SOON, "all", &["ill", "one", "two"]).await;
    watcher(builder().stale(true).near("_agent").datacenter("dc1")).until_ids(SOON, "others", &["one", "two"]).await;
    for (builder, why) in [(builder().filter("no filter"), "filter"), (builder().datacenter("mars"), "datacenter")] {
        let error = builder.build().unwrap().watch(&project()).next().await.unwrap().unwrap_err();
        assert!(error.to_string().contains(why) && error.kind() != ErrorKind::Timeout, "{error}");
    }
}

/// The agent asks the server itself.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn an_instance_that_does_not_serve_leaves_the_set_and_comes_back() {
    let agents = dev().await;
    let (health, health_service) = tonic_health::server::health_reporter();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tonic::transport::Server::builder().add_service(health_service);
    let serving = tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    health.set_service_status("", ServingStatus::Serving).await;
    let check = ConsulGrpcCheck::default().every(Duration::from_millis(200));
    let watcher = watcher(agents.builder());
    // A second one keeps the set from being empty, which is not believed at once.
    let _other = agents.consul().register(&project(), &instance("other", "10.0.0.7:80")).await.unwrap();
    for builder in [agents.builder().grpc_check(check.clone()), agents.builder().grpc_check(check).ttl_check(false)] {
        let consul = builder.build().unwrap();
        let mut lease = consul.register(&project(), &instance("served", &address)).await.unwrap();
        watcher.until_ids(SOON, "serving", &["other", "served"]).await;
        health.set_service_status("", ServingStatus::NotServing).await;
        watcher.until_ids(SOON, "not serving", &["other"]).await;
        // An update says nothing about health.
        lease.update(&instance("served", &address).with_weight(2)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(watcher.seen().ids(), ["other"]);
        health.set_service_status("", ServingStatus::Serving).await;
        let back = |seen: &Seen| seen.instance("served").is_some_and(|served| served.weight() == 2);
        watcher.until(SOON, "serving again", back).await;
        lease.revoke().await.unwrap();
        watcher.until_ids(SOON, "revoked", &["other"]).await;
    }
    serving.abort();
}
