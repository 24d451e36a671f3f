//! What becomes of a service's config, whatever happens to etcd.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they call")]

mod common;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use callboard_conformance::{Seen, Watcher};
use callboard_core::{ErrorKind, Registry, Resolver, ServiceName, Snapshot, Snapshots, encode, put_service_config};
use callboard_servers::{Mode, Proxy};
use common::{SOON, Servers, builder, instance, key, service};
use etcd_client::{Client, CompactionOptions};
use futures_util::StreamExt;
use tokio::time::timeout;

const ONE: &str = r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#;
const OTHER: &str = r#"{"loadBalancingConfig":[{"pick_first":{}}]}"#;

async fn next(watch: &mut Snapshots) -> Snapshot {
    timeout(SOON, watch.next()).await.expect("in time").expect("not the end").expect("a set")
}

fn config(set: &Snapshot) -> Option<&str> {
    set.config.as_deref().map(|config| std::str::from_utf8(config).unwrap())
}

fn ids(set: &Snapshot) -> Vec<&str> {
    set.instances.iter().map(|instance| instance.id()).collect()
}

async fn put_config(client: &mut Client, service: &ServiceName, config: &str) {
    client.put(key(service, "@config"), config, None).await.unwrap();
}

/// As a person would write it, without a lease.
async fn put_instance(client: &mut Client, service: &ServiceName, id: &str) {
    client.put(key(service, id), encode(&instance(id, 1)), None).await.unwrap();
}

/// Moves etcd to a revision that no watch has received.
async fn go_on(client: &mut Client) {
    for _ in 0..20 {
        client.put("elsewhere", "", None).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn what_is_written_is_the_text_as_it_is_without_a_lease() {
    let (servers, service) = (Servers::one().await, service("project/test"));
    let (etcd, mut client) = (servers.etcd(), servers.client().await);
    put_service_config(&etcd, &service, Some(ONE)).await.unwrap();
    let there = client.get("/callboard/project/test/@config", None).await.unwrap();
    assert_eq!((there.kvs()[0].value(), there.kvs()[0].lease()), (ONE.as_bytes(), 0));
    // Under another prefix, it is another service's.
    let elsewhere = servers.builder().prefix("/elsewhere").build().unwrap();
    elsewhere.put_service_config(&service, Some(OTHER)).await.unwrap();
    assert_eq!(config(&next(&mut etcd.watch(&service)).await), Some(ONE));
    assert_eq!(config(&next(&mut elsewhere.watch(&service)).await), Some(OTHER));
    for _ in 0..2 {
        put_service_config(&etcd, &service, None).await.unwrap();
        assert!(client.get("/callboard/project/test/@config", None).await.unwrap().kvs().is_empty());
    }
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn a_config_that_etcd_does_not_take_is_an_error_with_the_reason() {
    let (servers, service) = (Servers::one().await, service("project/test"));
    let etcd = servers.etcd();
    // A little more than etcd takes, and more than gRPC within it.
    for length in [1_600_000, 3_000_000] {
        let error = etcd.put_service_config(&service, Some(&" ".repeat(length))).await.unwrap_err();
        println!("{}", error.chain());
        assert_eq!((error.kind(), error.backend()), (ErrorKind::Invalid, Some("etcd")), "{error:?}");
        assert_eq!(error.service(), Some(&service));
        assert!(error.chain().contains("too large") || error.chain().contains("larger than max"), "{}", error.chain());
    }
    assert_eq!(config(&next(&mut etcd.watch(&service)).await), None);
    servers.cluster.kill().await;
    for config in [Some(ONE), None] {
        let error = timeout(SOON, etcd.put_service_config(&service, config)).await.expect("in time").unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout), "{error:?}");
        assert_eq!((error.backend(), error.service()), (Some("etcd"), Some(&service)));
    }
}

/// It was written before and is history; it is changed and removed while the watch is cut off, and the history is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn a_config_survives_a_compaction_while_a_watch_is_cut_off() {
    let (servers, service) = (Servers::one().await, service("project/test"));
    let proxy = Proxy::to(servers.cluster.address()).await;
    let mut client = servers.client().await;
    put_config(&mut client, &service, ONE).await;
    put_instance(&mut client, &service, "a").await;
    let watcher = Watcher::new(Arc::new(builder([proxy.address()]).build().unwrap()), &service);
    let there = |config: Option<&'static str>| {
        move |seen: &Seen| {
            seen.ids() == ["a"] && seen.stale.is_none() && seen.config.as_deref() == config.map(str::as_bytes)
        }
    };
    watcher.until(SOON, "before", there(Some(ONE))).await;
    for (written, expected) in [(None, Some(ONE)), (Some(OTHER), Some(OTHER)), (Some(""), None), (Some(ONE), Some(ONE))]
    {
        proxy.set(Mode::Refuse).await;
        match written {
            // Only something else happens.
            None => put_instance(&mut client, &service, "a").await,
            Some("") => servers.etcd().put_service_config(&service, None).await.unwrap(),
            Some(config) => put_config(&mut client, &service, config).await,
        }
        let now = client.get("x", None).await.unwrap().header().unwrap().revision();
        client.compact(now, Some(CompactionOptions::new().with_physical())).await.unwrap();
        watcher.until(SOON, "it is known that etcd does not answer", |seen| seen.stale.is_some()).await;
        proxy.set(Mode::Pass).await;
        watcher.until(SOON, &format!("{expected:?} after a compaction"), there(expected)).await;
    }
    assert_eq!(watcher.seen().emptied, 0);
}

/// Whoever sets up an etcd by a script writes the config first, and the same each time, at the same revision.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn a_config_is_no_proof_that_etcd_was_not_wiped() {
    let (servers, service) = (Servers::one().await, service("project/test"));
    let proxy = Proxy::to(servers.cluster.address()).await;
    let mut client = servers.client().await;
    put_config(&mut client, &service, ONE).await;
    let mut watch = builder([proxy.address()]).build().unwrap().watch(&service);
    assert_eq!(config(&next(&mut watch).await), Some(ONE));
    for (again, id) in [(ONE, Some("b")), (OTHER, None)] {
        // The watch is open once something has been received.
        let mut client = servers.client().await;
        put_instance(&mut client, &service, "a").await;
        assert!(ids(&next(&mut watch).await).contains(&"a"));
        client.delete(key(&service, "a"), None).await.unwrap();
        while ids(&next(&mut watch).await).contains(&"a") {}
        // It does not learn that its connection is gone before all this has happened.
        proxy.set(Mode::BlackHole).await;
        servers.cluster.wipe().await;
        let mut client = servers.client().await;
        put_config(&mut client, &service, again).await;
        if let Some(id) = id {
            put_instance(&mut client, &service, id).await;
        }
        go_on(&mut client).await;
        proxy.set(Mode::Pass).await;
        let set = next(&mut watch).await;
        assert_eq!((config(&set), ids(&set)), (Some(again), id.into_iter().collect()), "what is there now");
    }
}

/// The newest entry is in the backup, and the config that was believed is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn the_config_of_a_restored_backup_is_seen() {
    let (servers, service) = (Servers::one().await, service("project/test"));
    let proxy = Proxy::to(servers.cluster.address()).await;
    let (node, mut client) = (servers.cluster.node(0), servers.client().await);
    put_config(&mut client, &service, ONE).await;
    put_instance(&mut client, &service, "a").await;
    let backup = tempfile::tempdir().unwrap();
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        assert!(Command::new("cp").arg("-a").arg(from.join("data")).arg(to).status().unwrap().success());
    };
    node.kill().await;
    copy(node.directory(), backup.path());
    node.start().await;

    for later in [Some(OTHER), None] {
        let mut watch = builder([proxy.address()]).build().unwrap().watch(&service);
        assert_eq!(config(&next(&mut watch).await), Some(ONE));
        servers.etcd().put_service_config(&service, later).await.unwrap();
        assert_eq!(config(&next(&mut watch).await), later);
        proxy.set(Mode::BlackHole).await;
        node.kill().await;
        std::fs::remove_dir_all(node.directory().join("data")).unwrap();
        copy(backup.path(), node.directory());
        node.start().await;
        go_on(&mut servers.client().await).await;
        proxy.set(Mode::Pass).await;
        let set = next(&mut watch).await;
        assert_eq!((config(&set), ids(&set)), (Some(ONE), vec!["a"]), "as in the backup");
    }
}

/// The list that is made now and then does not make a config new that has not changed.
#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn a_config_is_the_same_allocation_after_another_list() {
    let (servers, service) = (Servers::one().await, service("project/test"));
    let mut client = servers.client().await;
    put_config(&mut client, &service, ONE).await;
    let mut watch = servers.builder().relist(Duration::from_secs(1)).build().unwrap().watch(&service);
    let first = next(&mut watch).await.config.unwrap();
    for _ in 0..2 {
        assert!(Arc::ptr_eq(&first, &next(&mut watch).await.config.unwrap()));
    }
    put_config(&mut client, &service, OTHER).await;
    while config(&next(&mut watch).await) != Some(OTHER) {}
}
