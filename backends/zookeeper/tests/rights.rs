//! Rights that are taken away while somebody watches. ZooKeeper says nothing of that, and nothing of what happens to a
//! node that a client may not read any more.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not their helpers")]

mod common;

use std::time::Duration;

use callboard_conformance::{Harness, Seen, Watcher};
use callboard_core::{ErrorKind, Instance, Registry, encode};
use common::{SOON, Zoo, config_of, directory, instance, service};
use tokio::time::Instant;
use zookeeper_client as zk;

/// Within which a watcher knows.
const KNOWN: Duration = Duration::from_secs(45);

fn denied(seen: &Seen) -> bool {
    seen.stale.as_ref().is_some_and(|stale| stale.error.kind() == ErrorKind::Denied)
}

/// The right to read this node is taken away from all clients. A watcher learns that within the bound, whether anything
/// happens there or not, keeps what is known, and goes on when the right is given back.
async fn is_told(zoo: &Zoo, path: &str) {
    let watcher = Watcher::new(zoo.resolver(), &service());
    watcher.until(SOON, "before", |seen| seen.ids() == ["a"] && seen.config.is_some()).await;
    let nobody = [zk::Acl::new(zk::Permission::ALL, zk::AuthId::new("digest", "nobody:x"))];
    zoo.hand().await.set_acl(path, &nobody, None).await.unwrap();
    let taken = Instant::now();
    let seen = watcher.until(KNOWN, "denied", denied).await;
    println!("known {:?} after the right to read {path} was taken", taken.elapsed());
    assert_eq!((seen.ids(), seen.emptied), (vec!["a"], 0), "{seen:?}");
    let error = seen.stale.unwrap().error;
    assert!(error.to_string().contains(path), "{error}");
    zoo.allow(path).await;
    let seen = watcher.until(SOON, "given back", |seen| seen.stale.is_none()).await;
    assert_eq!((seen.ids(), seen.emptied), (vec!["a"], 0), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn who_may_not_read_the_service_any_more_is_told() {
    let zoo = Zoo::start(1).await;
    let _lease = zoo.zookeeper().register(&service(), &instance("a")).await.unwrap();
    zoo.put_config(&service(), Some(b"{}")).await;
    is_told(&zoo, &directory(&service())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn who_may_not_read_the_config_any_more_is_told() {
    let zoo = Zoo::start(1).await;
    let _lease = zoo.zookeeper().register(&service(), &instance("a")).await.unwrap();
    zoo.put_config(&service(), Some(b"{}")).await;
    is_told(&zoo, &config_of(&service())).await;
}

/// Changes made while the right is away are seen by no watcher, and by all when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn what_changes_while_nobody_may_read_is_not_missed() {
    let zoo = Zoo::start(1).await;
    let _lease = zoo.zookeeper().register(&service(), &instance("a")).await.unwrap();
    let watcher = Watcher::new(zoo.resolver(), &service());
    watcher.until_ids(SOON, "before", &["a"]).await;
    let nobody = [
        zk::Acl::new(zk::Permission::ALL, zk::AuthId::new("digest", "nobody:x")),
        zk::Acl::new(zk::Permission::CREATE, zk::AuthId::anyone()),
    ];
    let hand = zoo.hand().await;
    hand.set_acl(&directory(&service()), &nobody, None).await.unwrap();
    let record = encode(&Instance::new("b", "127.0.0.1:50052".parse().unwrap()).unwrap());
    let node = zk::CreateMode::Ephemeral.with_acls(zk::Acls::anyone_all());
    hand.create(&format!("{}/b--1", directory(&service())), record.as_bytes(), &node).await.unwrap();
    let seen = watcher.until(KNOWN, "denied", denied).await;
    assert_eq!(seen.ids(), ["a"]);
    zoo.allow(&directory(&service())).await;
    watcher.until(SOON, "given back", |seen| seen.stale.is_none() && seen.ids() == ["a", "b"]).await;
}

/// Whoever holds a place does not lose it with the right to look at it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn a_claim_stands_although_its_service_may_not_be_read() {
    let zoo = Zoo::start(1).await;
    let mut lease = zoo.zookeeper().register(&service(), &instance("a")).await.unwrap();
    let nobody = [zk::Acl::new(zk::Permission::ALL, zk::AuthId::new("digest", "nobody:x"))];
    zoo.hand().await.set_acl(&directory(&service()), &nobody, None).await.unwrap();
    lease.update(&instance("a").with_weight(2)).await.unwrap();
    let lost = tokio::time::timeout(Duration::from_secs(9), lease.lost()).await;
    assert!(lost.is_err(), "{}", lost.unwrap().chain());
    zoo.allow(&directory(&service())).await;
    lease.revoke().await.unwrap();
}
