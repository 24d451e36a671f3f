//! What is registered, as Consul shows it to others, and how long it stays.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they share")]

mod agents;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agents::{Agents, TTL, get};
use callboard_conformance::{Harness, Seen, Watcher};
use callboard_consul::Consul;
use callboard_core::{
    ErrorKind, Incarnation, Instance, InstanceKind, RegistrationSettings, Registry, ServiceName, register,
};
use callboard_servers::{Cluster, Port};
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout};

const SOON: Duration = Duration::from_secs(20);

fn service(name: &str) -> ServiceName {
    name.parse().unwrap()
}

fn instance(id: &str, address: &str) -> Instance {
    Instance::new(id, address.parse().unwrap()).unwrap()
}

async fn dev() -> Agents {
    Agents::on(Cluster::consul_dev().start().await)
}

/// How many instances Consul lists as passing.
async fn passing(agents: &Agents, name: &str) -> usize {
    let body = get(agents.cluster.address(), &format!("/v1/health/service/{name}?passing=1")).await;
    serde_json::from_str::<Value>(&body).unwrap().as_array().unwrap().len()
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn an_entry_stands_in_consuls_own_fields() {
    let agents = dev().await;
    let consul = agents.builder().tag("v2").tag("blue").build().unwrap();
    let wanted = instance("a", "10.0.0.7:50051").with_weight(0).with_zone("eu-1").with_metadata("version", "2.4.0");
    let wanted = wanted.with_kind(InstanceKind::Balancer).with_incarnation(Incarnation::from_micros(7));
    let _lease = consul.register(&service("project/test"), &wanted).await.unwrap();
    let shown = agents.listed("project--test").await;
    let entry = &shown[0]["Service"];
    for (field, value) in [
        ("ID", json!("project/test:a")),
        ("Service", json!("project--test")),
        ("Address", json!("10.0.0.7")),
        ("Port", json!(50051)),
        ("Tags", json!(["v2", "blue"])),
        ("Weights", json!({"Passing": 1, "Warning": 1})),
    ] {
        assert_eq!(entry[field], value, "{field}");
    }
    let mut meta = entry["Meta"].as_object().unwrap().clone();
    let claim = meta.remove("callboard-claim").unwrap();
    let others = json!({
        "zone": "eu-1", "version": "2.4.0", "callboard-service": "project/test", "callboard-weight": "0",
        "callboard-kind": "balancer", "callboard-incarnation": "7"
    });
    assert_eq!(Value::from(meta), others);
    let check = shown[0]["Checks"].as_array().unwrap().iter().find(|check| check["Type"] == "ttl").unwrap();
    assert_eq!(check["CheckID"], format!("callboard:project/test:a:{}", claim.as_str().unwrap()));
    assert_eq!((&check["Status"], shown[0]["Checks"].as_array().unwrap().len()), (&json!("passing"), 2));
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn every_weight_and_address_comes_back_as_it_was() {
    let agents = dev().await;
    let (consul, service) = (agents.consul(), service("project-test"));
    let watcher = Watcher::new(agents.resolver(), &service);
    for (number, address) in
        ["127.0.0.1:1", "[2001:db8::1]:2", "host.internal:3", "unix:/run/app.sock"].iter().enumerate()
    {
        for weight in [0, 1, 65_535, 65_536, u32::MAX] {
            let wanted = instance(&format!("i{number}"), address).with_weight(weight);
            let lease = consul.register(&service, &wanted).await.unwrap();
            let same = |seen: &Seen| seen.instance(wanted.id()).is_some_and(|there| **there == wanted);
            watcher.until(SOON, &format!("{wanted:?}"), same).await;
            lease.revoke().await.unwrap();
        }
    }
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn one_id_in_services_whose_names_consul_could_confuse_is_several_instances() {
    let agents = dev().await;
    let consul = agents.consul();
    let names = ["project/test", "project-test", "project--test", "Project-Test", "project.test", "PROJECT/test"];
    let ids = ["a", "A"];
    let mut leases = Vec::new();
    for (place, name) in names.iter().enumerate() {
        for (offset, id) in ids.iter().enumerate() {
            let wanted = instance(id, &format!("127.0.0.1:{}", place * 2 + offset + 1));
            leases.push(consul.register(&service(name), &wanted).await.unwrap());
        }
    }
    for (place, name) in names.iter().enumerate() {
        let seen = Watcher::new(agents.resolver(), &service(name)).until_ids(SOON, name, &["A", "a"]).await;
        for (offset, id) in ids.iter().enumerate() {
            let address = format!("127.0.0.1:{}", place * 2 + offset + 1);
            assert_eq!(seen.instance(id).unwrap().address().to_string(), address, "{name} {id}");
        }
    }
    for (place, lease) in leases.into_iter().enumerate() {
        if place % 2 == 0 {
            lease.revoke().await.unwrap();
        }
    }
    for name in names {
        Watcher::new(agents.resolver(), &service(name)).until_ids(SOON, name, &["A"]).await;
    }
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn what_consul_cannot_hold_is_refused_before_it_is_asked() {
    let consul = Consul::builder().address("127.0.0.1:1").build().unwrap();
    let wanted = instance("a", "127.0.0.1:1").with_metadata("a key", "");
    let error = consul.register(&service("project/test"), &wanted).await.unwrap_err();
    assert_eq!((error.kind(), error.backend()), (ErrorKind::Invalid, Some("consul")));
    assert!(error.to_string().contains("\"a key\""), "{error}");
}

/// An agent's restart, short or longer than the time to live, empties the passing ones for less than a second.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn an_agent_that_restarts_lists_the_instance_again_within_a_second() {
    let agents = Agents::on(Cluster::consul().start().await);
    let service = service("project-test");
    let lease = agents.consul().register(&service, &instance("a", "127.0.0.1:1")).await.unwrap();
    agents.until_listed("project-test", SOON).await;
    for outage in [Duration::ZERO, TTL / 2] {
        agents.cluster.kill().await;
        sleep(outage).await;
        agents.cluster.start().await;
        let back = Instant::now();
        agents.until_listed("project-test", SOON).await;
        assert!(back.elapsed() < Duration::from_secs(1), "{:?} after an outage of {outage:?}", back.elapsed());
    }
    drop(lease);
}

/// Even where it has forgotten everything, and long before the next pass would be due.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn at_an_agent_that_returns_without_data_the_instance_is_registered_again_within_a_second() {
    let agents = dev().await;
    let registry: Arc<Consul> = Arc::new(agents.builder().ttl(Duration::from_secs(600)).build().unwrap());
    let registered = ["a", "b"].map(|id| {
        register(
            registry.clone(),
            &service("project-test"),
            instance(id, &format!("{id}:1")),
            RegistrationSettings::default(),
        )
    });
    for registration in &registered {
        registration.wait_registered(SOON).await.unwrap();
    }
    for outage in [Duration::ZERO, Duration::from_secs(2)] {
        agents.cluster.kill().await;
        sleep(outage).await;
        agents.cluster.start().await;
        let back = Instant::now();
        while passing(&agents, "project-test").await < 2 {
            assert!(back.elapsed() < SOON, "not registered again");
            sleep(Duration::from_millis(10)).await;
        }
        assert!(back.elapsed() < Duration::from_secs(1), "{:?} after an outage of {outage:?}", back.elapsed());
    }
}

/// A claim by the agent's own check alone outlives no lease, though the server goes on.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn without_a_time_to_live_a_dropped_lease_removes_its_entry() {
    let agents = dev().await;
    let consul = agents.builder().ttl_check(false).grpc_check(Default::default()).build().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let wanted = instance("a", &listener.local_addr().unwrap().to_string());
    let first = consul.register(&service("project-test"), &wanted).await.unwrap();
    let second = consul.register(&service("project-test"), &wanted).await.unwrap();
    drop(first);
    sleep(Duration::from_millis(500)).await; // what the first one's end would do is done by then
    assert_eq!(agents.listed("project-test").await.as_array().unwrap().len(), 1, "the second one's entry");
    drop(second);
    let begun = Instant::now();
    while agents.listed("project-test").await != json!([]) {
        assert!(begun.elapsed() < SOON, "still there");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Another tool's word counts until the owner's next look at its entry.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn an_entry_that_another_tool_has_replaced_is_made_again_within_a_minute() {
    let agents = dev().await;
    let service = service("project-test");
    let watcher = Watcher::new(agents.resolver(), &service);
    let owner = register(
        agents.registry(),
        &service,
        instance("a", "10.0.0.7:1").with_weight(3),
        RegistrationSettings::default(),
    );
    watcher.until_ids(SOON, "registered", &["a"]).await;
    let other = r#"{"ID":"project-test:a","Name":"project-test","Address":"10.0.0.7","Port":1,"Weights":{"Passing":9,"Warning":1}}"#;
    agents.put("/v1/agent/service/register", other).await;
    let weighs = |weight: u32| move |seen: &Seen| seen.instance("a").is_some_and(|a| a.weight() == weight);
    watcher.until(SOON, "the other tool's", weighs(9)).await;
    let seen = watcher.until(Duration::from_secs(60) + SOON, "the owner's", weighs(3)).await;
    assert_eq!(seen.emptied, 0);
    owner.deregister().await.unwrap();
}

/// A question to Consul's DNS about a service, and whether the answer holds this address and port.
async fn dns_knows(server: SocketAddr, name: &str, address: [u8; 4], port: u16) -> bool {
    let mut question = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]; // one question, recursion wanted
    for label in name.split('.') {
        question.push(label.len() as u8);
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 33, 0, 1]); // SRV, Internet
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&question, server).await.unwrap();
    let mut answer = [0; 512];
    let Ok(received) = timeout(Duration::from_secs(5), socket.recv(&mut answer)).await else { return false };
    let answer = &answer[question.len().min(512)..received.unwrap()];
    let holds = |bytes: &[u8]| answer.windows(bytes.len()).any(|window| window == bytes);
    holds(&port.to_be_bytes()) && holds(&address)
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn consuls_dns_knows_the_instance() {
    let port = Port::free().unwrap();
    let agents = Agents::on(Cluster::consul_dev().arg(format!("-dns-port={}", port.number())).start().await);
    let _lease = agents.consul().register(&service("project/test"), &instance("a", "10.11.12.13:54321")).await.unwrap();
    agents.until_listed("project--test", SOON).await;
    assert!(dns_knows(port.address(), "project--test.service.consul", [10, 11, 12, 13], 54_321).await);
    assert!(!dns_knows(port.address(), "project-test.service.consul", [10, 11, 12, 13], 54_321).await);
}
