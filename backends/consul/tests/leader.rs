//! Three servers, of which the leader is lost. Neither the watches nor the registrations are connected to it directly.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they share")]

mod agents;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agents::TTL;
use callboard_conformance::{Seen, Watcher};
use callboard_consul::Consul;
use callboard_core::{Instance, Registration, RegistrationSettings, Registry, ServiceName, register};
use callboard_servers::{Cluster, ask};
use tokio::time::{Instant, sleep};

const SOON: Duration = Duration::from_secs(20);

struct Followers {
    cluster: Cluster,
    leader: usize,
    watched: SocketAddr,
    registered: SocketAddr,
}

impl Followers {
    /// An instance that is registered, and somebody who watches and has seen it.
    async fn one_and_a_watcher(&self) -> (Registration, Watcher) {
        let first = registered_on(self.registered, "first", 1).await;
        let watcher = Watcher::new(consul(self.watched), &service());
        watcher.until_ids(SOON, "before", &["first"]).await;
        (first, watcher)
    }
}

/// Writes until there is a new leader that takes it.
async fn until_taken(mut write: impl AsyncFnMut() -> bool) {
    let give_up = Instant::now() + SOON;
    while !write().await {
        assert!(Instant::now() < give_up, "no new leader");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn cluster() -> Followers {
    let cluster = Cluster::consul().nodes(3).start().await;
    let leader = cluster.leader().await;
    let address = |offset: usize| cluster.node((leader + offset) % 3).address();
    let (watched, registered) = (address(1), address(2));
    Followers { cluster, leader, watched, registered }
}

fn consul(agent: SocketAddr) -> Arc<Consul> {
    Arc::new(Consul::builder().address(agent.to_string()).ttl(TTL).build().unwrap())
}

fn service() -> ServiceName {
    "project-test".parse().unwrap()
}

async fn registered_on(agent: SocketAddr, id: &str, port: u16) -> Registration {
    let instance = Instance::new(id, format!("127.0.0.1:{port}").parse().unwrap()).unwrap();
    let registration = register(consul(agent), &service(), instance, RegistrationSettings::default());
    registration.wait_registered(SOON).await.unwrap();
    registration
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_leader_that_is_killed_costs_nothing_but_the_time_of_an_election() {
    let followers = cluster().await;
    let (_first, watcher) = followers.one_and_a_watcher().await;
    let Followers { cluster, leader, registered, .. } = followers;
    cluster.node(leader).kill().await;
    let _second = registered_on(registered, "second", 2).await;
    let both = |seen: &Seen| seen.ids() == ["first", "second"] && seen.stale.is_none();
    let seen = watcher.until(SOON, "after the election", both).await;
    assert_eq!(seen.emptied, 0);
}

/// The query that a follower has passed on to it would wait for half a minute.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_leader_that_is_stopped_is_not_waited_for() {
    let followers = cluster().await;
    let (_first, watcher) = followers.one_and_a_watcher().await;
    let Followers { cluster, leader, registered, .. } = followers;
    sleep(Duration::from_secs(3)).await; // so that the watch waits, and the leader for it
    cluster.node(leader).pause();
    // Into the catalog and past the agents, whose own entries are held up as long as one of them talks to that leader.
    let entry = r#"{"Node":"n9","Address":"127.0.0.1","Service":{"ID":"second","Service":"project-test","Port":2}}"#;
    until_taken(async || {
        let said = ask::http(registered, "PUT", "/v1/catalog/register", &[], entry).await;
        said.is_ok_and(|said| said.status == 200)
    })
    .await;
    let both = |seen: &Seen| seen.ids() == ["first", "second"] && seen.stale.is_none();
    let seen = watcher.until(Duration::from_secs(10), "after the election", both).await;
    assert_eq!(seen.emptied, 0);
    cluster.node(leader).resume();
}

/// A query for a config is passed on to the leader, and waits there: what it waits for is seen once its time is over.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_config_that_is_put_at_a_new_leader_is_seen() {
    let followers = cluster().await;
    let (_first, watcher) = followers.one_and_a_watcher().await;
    let Followers { cluster, leader, registered, .. } = followers;
    sleep(Duration::from_secs(3)).await; // so that the watch waits, and the leader for it
    cluster.node(leader).pause();
    until_taken(async || consul(registered).put_service_config(&service(), Some("{}")).await.is_ok()).await;
    let put = Instant::now();
    let config = |seen: &Seen| seen.config.as_deref() == Some(b"{}") && seen.stale.is_none();
    let seen = watcher.until(SOON * 3, "after the election", config).await;
    println!("seen {:?} after it was put", put.elapsed());
    assert_eq!((seen.ids(), seen.emptied), (vec!["first"], 0));
    cluster.node(leader).resume();
}
