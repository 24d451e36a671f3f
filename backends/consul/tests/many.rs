//! More watches than an agent grants connections.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they share")]

mod agents;

use std::sync::Arc;
use std::time::Duration;

use agents::Agents;
use callboard_conformance::{Seen, Watcher};
use callboard_consul::Consul;
use callboard_core::{
    Error, Instance, Registration, RegistrationSettings, Registry, Resolver, Result, ServiceName, Snapshot, register,
};
use callboard_servers::{Cluster, Port};
use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

const SOON: Duration = Duration::from_secs(20);

fn service(number: usize) -> ServiceName {
    format!("many/s{number}").parse().unwrap()
}

async fn put(agents: &Agents, number: usize, weight: u32) {
    let body = format!(
        r#"{{"ID":"many/s{number}:a","Name":"many--s{number}","Address":"10.0.0.7","Port":80,
            "Meta":{{"callboard-service":"many/s{number}"}},"Weights":{{"Passing":{weight},"Warning":1}}}}"#
    );
    agents.put("/v1/agent/service/register", &body).await;
}

async fn registered(agents: &Agents, count: usize, weight: u32) {
    for number in 0..count {
        put(agents, number, weight).await;
    }
}

fn weighs(weight: u32) -> impl Fn(&Seen) -> bool {
    move |seen| seen.instance("a").is_some_and(|a| a.weight() == weight)
}

/// So many services over one client, on an agent as it comes; each change is seen within `bound`.
async fn changes_are_seen(count: usize, bound: Duration) {
    let agents = Agents::on(Cluster::consul_dev().start().await);
    registered(&agents, count, 1).await;
    let consul = Arc::new(agents.consul());
    let begun = Instant::now();
    let watchers: Vec<_> = (0..count).map(|number| Watcher::new(consul.clone(), &service(number))).collect();
    let give_up = begun + SOON;
    let heard = || watchers.iter().filter(|watcher| weighs(1)(&watcher.seen())).count();
    while heard() < count && Instant::now() < give_up {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(heard(), count, "services heard after {:?}", begun.elapsed());
    println!("{count} services: all first sets after {:?}", begun.elapsed());
    // Another look when all have settled: the first ones have waited for long by then.
    for (weight, number) in [(2, 0), (3, count / 2), (4, count - 1), (5, 7 % count)] {
        put(&agents, number, weight).await;
        let told = Instant::now();
        watchers[number].until(bound, "the change", weighs(weight)).await;
        println!("{count} services: a change of one is seen after {:?}", told.elapsed());
    }
    let stale = watchers.iter().filter(|watcher| watcher.seen().stale.is_some()).count();
    assert_eq!(stale, 0, "of {count} cannot hear the registry");
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_hundred_and_fifty_services_are_watched_over_one_client() {
    changes_are_seen(150, Duration::from_secs(5)).await;
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn five_hundred_services_are_watched_over_one_client() {
    changes_are_seen(500, Duration::from_secs(8)).await;
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_thousand_services_are_watched_over_one_client() {
    changes_are_seen(1_000, Duration::from_secs(15)).await;
}

/// Registrations take few connections too, and live among many watches.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_hundred_leases_and_two_hundred_watches_share_one_client() {
    let agents = Agents::on(Cluster::consul_dev().start().await);
    let consul = Arc::new(agents.builder().ttl(Duration::from_secs(15)).build().unwrap());
    let registered: Vec<_> = (0..100)
        .map(|number| {
            let instance = Instance::new("a", format!("10.0.0.7:{}", number + 1).parse().unwrap()).unwrap();
            register(consul.clone(), &service(number), instance, RegistrationSettings::default())
        })
        .collect();
    let watchers: Vec<_> = (0..200).map(|number| Watcher::new(consul.clone(), &service(number))).collect();
    for watcher in &watchers[..100] {
        watcher.until_ids(SOON, "registered", &["a"]).await;
    }
    join_all(registered.into_iter().map(Registration::deregister)).await;
    let empty = |seen: &Seen| seen.set.is_some() && seen.stale.is_none();
    for watcher in &watchers {
        watcher.until(SOON, "heard", empty).await;
    }
}

async fn first(consul: &Consul) -> Result<Snapshot> {
    timeout(SOON, consul.watch(&service(0)).next()).await.unwrap().unwrap()
}

fn names_the_limit(error: &Error) {
    let text = error.to_string();
    assert!(text.contains("http_max_conns_per_client"), "{}", error.chain());
    assert!(text.contains("connections"), "{text}");
}

/// Another program on the same host has taken all that the agent grants to it.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn an_agent_that_grants_no_more_connections_is_said_to() {
    let agents = Agents::on(Cluster::consul_dev().config("limits { http_max_conns_per_client = 6 }").start().await);
    let mut held = Vec::new();
    for _ in 0..6 {
        let mut socket = TcpStream::connect(agents.cluster.address()).await.unwrap();
        socket.write_all(b"GET /v1/health/service/x?index=9999&wait=60s HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        held.push(socket);
    }
    let refused = async {
        loop {
            let mut socket = TcpStream::connect(agents.cluster.address()).await.unwrap();
            let mut said = [0; 12];
            socket.write_all(b"GET /v1/status/leader HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            if socket.read_exact(&mut said).await.is_err() || &said == b"HTTP/1.1 429" {
                break;
            }
        }
    };
    timeout(SOON, refused).await.expect("the agent has no place left");
    let consul = agents.consul();
    names_the_limit(&first(&consul).await.expect_err("no place for a watch"));
    let instance = Instance::new("a", "10.0.0.7:80".parse().unwrap()).unwrap();
    names_the_limit(&consul.register(&service(0), &instance).await.expect_err("no place for a registration"));
    drop(held);
    let back = async { while first(&consul).await.is_err() {} };
    timeout(SOON, back).await.expect("there is a place again");
}

/// Older agents close such a connection without a word.
#[tokio::test]
async fn an_agent_that_closes_a_connection_without_an_answer_is_said_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            drop(socket);
        }
    });
    names_the_limit(&first(&Consul::builder().address(address.to_string()).build().unwrap()).await.unwrap_err());
    // Nobody listening is another matter.
    let nobody = Port::free().unwrap().address();
    let error = first(&Consul::builder().address(nobody.to_string()).build().unwrap()).await.unwrap_err();
    assert!(!error.to_string().contains("http_max_conns"), "{error}");
}
