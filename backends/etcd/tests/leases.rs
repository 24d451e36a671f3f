//! What an entry in etcd hangs on, and what is left behind.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they call")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use callboard_core::{ErrorKind, Incarnation, Registry, Resolver};
use callboard_servers::{Port, Proxy};
use common::{SOON, Servers, TTL, builder, figure, instance, key, service};
use etcd_client::GetOptions;
use futures_util::StreamExt;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep, timeout};

/// Waits until something is so.
async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !so().await {
        assert!(Instant::now() < deadline, "not within {SOON:?}: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn an_entry_is_read_by_eye_and_every_one_has_a_lease() {
    let servers = Servers::one().await;
    let (etcd, service) = (servers.etcd(), service("project/test"));
    let made = instance("10.0.0.7:50051", 50051)
        .with_weight(3)
        .with_zone("eu-1")
        .with_incarnation(Incarnation::from_micros(7));
    let mut lease = etcd.register(&service, &made).await.unwrap();
    lease.update(&made.clone().with_weight(4)).await.unwrap();
    let mut client = servers.client().await;
    let all = client.get("", Some(GetOptions::new().with_all_keys())).await.unwrap();
    let [entry] = all.kvs() else { panic!("one key: {all:?}") };
    assert_eq!(entry.key_str().unwrap(), "/callboard/project/test/10.0.0.7:50051");
    assert_eq!(
        entry.value_str().unwrap(),
        r#"{"v":1,"id":"10.0.0.7:50051","address":"127.0.0.1:50051","weight":4,"zone":"eu-1","incarnation":7}"#
    );
    assert_ne!(entry.lease(), 0);
    let lives = client.lease_time_to_live(entry.lease(), None).await.unwrap();
    assert_eq!(Duration::from_secs(lives.granted_ttl().unsigned_abs()), TTL);
    lease.revoke().await.unwrap();
    assert!(client.leases().await.unwrap().leases().is_empty(), "the lease is ended too");
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn one_stream_keeps_all_leases_alive_and_its_task_ends_with_the_last() {
    let servers = Servers::one().await;
    let (etcd, tasks) = (servers.etcd(), || Handle::current().metrics().num_alive_tasks());
    let service = service("project/test");
    // Makes the clients, whose tasks live as long as they do.
    etcd.register(&service, &instance("first", 1)).await.unwrap().revoke().await.unwrap();
    let mut client = servers.client().await;
    client.leases().await.unwrap();
    let before = tasks();
    let mut leases = Vec::new();
    for port in 1..=150 {
        leases.push(etcd.clone().register(&service, &instance(&format!("i{port}"), port)).await.unwrap());
    }
    let any_lost = futures_util::future::select_all(leases.iter_mut().map(|lease| lease.lost()));
    let lost = timeout(TTL * 3, any_lost).await.map(|(error, ..)| error).ok();
    assert!(lost.is_none(), "lost without a reason: {lost:?}");
    let streams = r#"grpc_server_started_total{grpc_method="LeaseKeepAlive",grpc_service="etcdserverpb.Lease",grpc_type="bidi_stream"}"#;
    assert_eq!(figure(servers.cluster.address(), streams).await, 1.0, "one stream for all");
    assert_eq!(client.leases().await.unwrap().leases().len(), 150);
    // Those that are dropped end by their time to live, the others go on.
    leases.truncate(1);
    until("the dropped ones end", async || client.leases().await.unwrap().leases().len() == 1).await;
    drop(leases);
    until("the task ends", async || tasks() <= before).await;
    drop(etcd);
    until("the last one ends", async || client.leases().await.unwrap().leases().is_empty()).await;
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn one_connection_serves_all_services_and_registrations() {
    let servers = Servers::one().await;
    let (target, connections) = (servers.cluster.address(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&connections);
    let count = move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Some(target)
    };
    let proxy = Proxy::switch(Port::free().unwrap(), count).unwrap();
    let etcd = builder([proxy.address()]).build().unwrap();
    let (mut leases, mut watches) = (Vec::new(), Vec::new());
    for port in 1..=20 {
        let service = service(&format!("project/{port}"));
        leases.push(etcd.clone().register(&service, &instance("a", port)).await.unwrap());
        let mut watch = etcd.clone().watch(&service);
        assert_eq!(watch.next().await.unwrap().unwrap().instances.len(), 1);
        watches.push(watch);
    }
    // Until each lease has been kept alive, and each watch is open and has received something.
    sleep(TTL / 2).await;
    for (port, (lease, watch)) in (1..).zip(leases.iter_mut().zip(&mut watches)) {
        lease.update(&instance("a", port).with_weight(2)).await.unwrap();
        assert_eq!(watch.next().await.unwrap().unwrap().instances[0].weight(), 2);
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn a_registration_that_is_cancelled_anywhere_leaves_nothing_for_long() {
    let servers = Servers::one().await;
    let (etcd, service) = (servers.etcd(), service("project/test"));
    etcd.register(&service, &instance("first", 1)).await.unwrap().revoke().await.unwrap();
    let mut cancelled = 0;
    for micros in (0..60).map(|step| step * 100) {
        let wanted = instance(&format!("i{micros}"), 1);
        let registering = etcd.register(&service, &wanted);
        cancelled += usize::from(timeout(Duration::from_micros(micros), registering).await.is_err());
    }
    assert!(cancelled > 0, "each came to its end");
    let mut client = servers.client().await;
    let mut left = async || {
        let keys = client.get("/callboard", Some(GetOptions::new().with_prefix())).await.unwrap().kvs().len();
        keys + client.leases().await.unwrap().leases().len()
    };
    until("all leases end", async || left().await == 0).await;
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn what_nobody_can_read_is_replaced_and_what_is_newer_is_not() {
    let servers = Servers::one().await;
    let (etcd, service) = (servers.etcd(), service("project/test"));
    let mut client = servers.client().await;
    client.put(key(&service, "a"), "garbage", None).await.unwrap();
    let at = |incarnation| instance("a", 1).with_incarnation(Incarnation::from_micros(incarnation));
    let mut lease = etcd.register(&service, &at(5)).await.unwrap();
    let refused = etcd.register(&service, &at(4)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused:?}");
    assert_eq!(client.leases().await.unwrap().leases().len(), 1, "nothing is left of what was refused");
    // It is overwritten by hand, without a lease, which is no reason to give way.
    client.put(key(&service, "a"), "garbage", None).await.unwrap();
    let error = lease.update(&at(5).with_weight(2)).await.unwrap_err();
    assert_eq!((error.kind(), error.backend(), error.service()), (ErrorKind::Lost, Some("etcd"), Some(&service)));
    assert_eq!(timeout(SOON, lease.lost()).await.expect("noticed").kind(), ErrorKind::Lost);
    assert_eq!(timeout(SOON, lease.lost()).await.expect("said again").kind(), ErrorKind::Lost);
    lease.revoke().await.unwrap();
    let there = client.get(key(&service, "a"), None).await.unwrap();
    assert_eq!(there.kvs()[0].value(), b"garbage", "what is not ours stays");
    let newer = etcd.register(&service, &at(6)).await.unwrap();
    newer.revoke().await.unwrap();
}
