//! Ten thousand instances in one service, and records that are large.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they call")]

mod common;

use std::sync::Arc;
use std::time::Instant;

use callboard_conformance::Bystander;
use callboard_core::{Registry, Resolution, Resolver, Snapshots, WatchSettings, encode, watch};
use callboard_servers::Mode;
use callboard_servers::Proxy;
use common::{SOON, Servers, builder, figure, instance, key, service};
use etcd_client::{Client, Txn, TxnOp};
use futures_util::StreamExt;
use tokio::time::timeout;

/// Writes these instances by hand, many at a time.
async fn write(client: &mut Client, ids: impl Iterator<Item = usize>, note: &str) {
    let service = service("project/test");
    let put = |id: usize| {
        let id = format!("i{id:05}");
        let instance = instance(&id, 1).with_metadata("note", note);
        TxnOp::put(key(&service, &id), encode(&instance), None)
    };
    let puts: Vec<_> = ids.map(put).collect();
    for some in puts.chunks(100) {
        client.txn(Txn::new().and_then(some)).await.unwrap();
    }
}

async fn next(watch: &mut Snapshots) -> callboard_core::Snapshot {
    timeout(SOON, watch.next()).await.expect("in time").expect("not the end").expect("a set")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn ten_thousand_instances_are_seen_within_a_second_and_an_event_costs_little() {
    let servers = Servers::one().await;
    let mut client = servers.client().await;
    write(&mut client, 0..10_000, &"x".repeat(100)).await;
    let etcd = servers.etcd();
    let mut best = std::time::Duration::MAX;
    // The machine may be busy with something else at one moment; not at each.
    for _ in 0..5 {
        let begun = Instant::now();
        let snapshot = next(&mut etcd.watch(&service("project/test"))).await;
        best = best.min(begun.elapsed());
        assert_eq!((snapshot.instances.len(), snapshot.skipped), (10_000, 0));
    }
    println!("first set of 10,000 instances after {best:?}");
    assert!(best.as_secs_f64() < 1.0, "first set of 10,000 instances after {best:?}");

    let mut watch = etcd.watch(&service("project/test"));
    let mut before = next(&mut watch).await;
    let mut longest = std::time::Duration::ZERO;
    for round in 0..20 {
        let changed = round * 487;
        let begun = Instant::now();
        write(&mut client, changed..=changed, "changed").await;
        let after = next(&mut watch).await;
        longest = longest.max(begun.elapsed());
        let same = |at: &usize| Arc::ptr_eq(&before.instances[*at], &after.instances[*at]);
        assert_eq!((0..10_000).filter(same).count(), 9_999, "all others are handed out as they are");
        assert_eq!(after.instances[changed].metadata()["note"], "changed");
        before = after;
    }
    println!("a change among 10,000 is written and seen after at most {longest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn a_change_of_the_config_leaves_ten_thousand_instances_as_they_are() {
    let servers = Servers::one().await;
    let (mut client, service) = (servers.client().await, service("project/test"));
    write(&mut client, 0..10_000, "x").await;
    let etcd = servers.etcd();
    let mut watch = etcd.watch(&service);
    let mut before = next(&mut watch).await;
    for config in [Some("{}"), Some("[]"), None] {
        etcd.put_service_config(&service, config).await.unwrap();
        let after = next(&mut watch).await;
        assert_eq!((after.instances.len(), after.skipped), (10_000, 0));
        assert_eq!(after.config.as_deref(), config.map(str::as_bytes));
        let mut both = before.instances.iter().zip(&after.instances);
        assert!(both.all(|(before, after)| Arc::ptr_eq(before, after)), "all instances are handed out as they are");
        // And what happens to an instance leaves the config as it is.
        write(&mut client, 7..=7, "changed").await;
        before = next(&mut watch).await;
        assert_eq!(before.config.as_ref().map(Arc::as_ptr), after.config.as_ref().map(Arc::as_ptr));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn lists_and_events_of_more_than_four_mebibytes_are_read() {
    let servers = Servers::one().await;
    let mut client = servers.client().await;
    let etcd = servers.etcd();
    let mut early = etcd.watch(&service("project/test"));
    assert!(next(&mut early).await.instances.is_empty());
    // One answer has a thousand of them: 10 MB. The watch, which is not polled, receives them in large answers too.
    write(&mut client, 0..1_100, &"x".repeat(10_000)).await;
    assert_eq!(next(&mut etcd.watch(&service("project/test"))).await.instances.len(), 1_100);
    while next(&mut early).await.instances.len() < 1_100 {}
}

/// More answers than are kept for a watch that is not read; another watch on the same stream is not held up by that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn who_has_not_read_for_long_hears_everything_all_the_same() {
    let servers = Servers::one().await;
    let mut client = servers.client().await;
    let etcd = servers.etcd();
    let (mut unread, mut read) = (etcd.watch(&service("project/test")), etcd.watch(&service("project/test")));
    for watch in [&mut unread, &mut read] {
        next(watch).await;
        // It is open once something has been received.
        write(&mut client, 0..1, &fastrand::u64(..).to_string()).await;
        next(watch).await;
    }
    for id in 0..1_000 {
        write(&mut client, id..id + 1, "written one by one").await;
        while next(&mut read).await.instances.len() < id + 1 {}
    }
    client.delete(key(&service("project/test"), "i00007"), None).await.unwrap();
    let gone = |seen: &callboard_core::Snapshot| seen.instances.iter().all(|instance| instance.id() != "i00007");
    for watch in [&mut read, &mut unread] {
        let mut seen = next(watch).await;
        while !(gone(&seen) && seen.instances.len() == 999) {
            seen = next(watch).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn a_watch_that_breaks_goes_on_where_it_was_without_another_list() {
    let servers = Servers::one().await;
    let mut client = servers.client().await;
    write(&mut client, 0..2_000, &"x".repeat(200)).await;
    let proxy = Proxy::to(servers.cluster.address()).await;
    let etcd = builder([proxy.address()]).build().unwrap();
    let mut watch = etcd.watch(&service("project/test"));
    assert_eq!(next(&mut watch).await.instances.len(), 2_000);
    // It is open once something has been received.
    write(&mut client, 0..1, "changed").await;
    next(&mut watch).await;
    let sent = async || figure(servers.cluster.address(), "etcd_network_client_grpc_sent_bytes_total").await;
    let before = sent().await;
    proxy.set(Mode::Refuse).await;
    client.delete(key(&service("project/test"), "i00007"), None).await.unwrap();
    write(&mut client, 5_000..5_001, "new").await;
    proxy.set(Mode::Pass).await;
    let mut seen = next(&mut watch).await;
    while seen.instances.last().is_none_or(|last| last.id() != "i05000") {
        seen = next(&mut watch).await;
    }
    assert_eq!(seen.instances.len(), 2_000);
    assert!(seen.instances.iter().all(|instance| instance.id() != "i00007"));
    let bytes = sent().await - before;
    println!("{bytes} bytes were sent for that; a list has 600,000");
    assert!(bytes < 100_000.0, "{bytes} bytes were sent");
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn a_watch_lists_everything_again_now_and_then() {
    let servers = Servers::one().await;
    let mut client = servers.client().await;
    write(&mut client, 0..10, "x").await;
    let every = std::time::Duration::from_secs(1);
    let mut watch = servers.builder().relist(every).build().unwrap().watch(&service("project/test"));
    let first = next(&mut watch).await;
    for _ in 0..3 {
        let begun = Instant::now();
        assert_eq!(next(&mut watch).await, first, "nothing has changed");
        assert!(begun.elapsed() > every / 2, "lists again and again");
    }
    write(&mut client, 10..11, "x").await;
    while next(&mut watch).await.instances.len() < 11 {}
}

/// Whoever else is on the thread has its turn while 100,000 records are read, at first and after changes.
#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn a_hundred_thousand_records_hold_nobody_up_and_a_part_of_them_counts() {
    let servers = Servers::one().await;
    let (mut client, etcd, service) = (servers.client().await, Arc::new(servers.etcd()), service("project/test"));
    write(&mut client, 0..100_000, "x").await;
    let (bystander, mut waits) = (Bystander::new(), Vec::new());
    for round in 0..3 {
        bystander.longest_wait();
        let mut watcher = watch(Arc::clone(&etcd) as Arc<dyn Resolver>, &service, WatchSettings::default());
        let view = timeout(SOON, watcher.changed()).await.expect("a set");
        assert_eq!((view.instances.as_ref().unwrap().len(), view.left_out), (10_000, 90_000), "{:?}", view.stale);
        // Among a thousand that change is one of each ten that are kept.
        write(&mut client, 0..1_000, &format!("changed {round}")).await;
        let changed = |view: &Resolution| {
            let noted = |note: &String| note.starts_with("changed") && note.ends_with(&round.to_string());
            view.instances.iter().flat_map(|set| set.iter()).any(|i| i.metadata().get("note").is_some_and(noted))
        };
        timeout(SOON, async { while !changed(watcher.changed().await) {} }).await.expect("a changed one");
        drop(watcher);
        waits.push(bystander.longest_wait());
    }
    println!("others were kept from their turn for {waits:?}");
    assert!(waits.iter().min().unwrap() < &std::time::Duration::from_millis(50), "{waits:?}");
}

/// More than fits into one answer, in records that are as large as etcd takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn records_of_a_megabyte_are_listed_and_no_more_of_them_kept_than_there_is_room_for() {
    let servers = Servers::one().await;
    let (mut client, service) = (servers.client().await, service("project/test"));
    let note = "x".repeat(1 << 20);
    for id in 0..80 {
        write(&mut client, id..=id, &note).await;
    }
    write(&mut client, 100..110, "small").await;
    let first = next(&mut servers.etcd().watch(&service)).await;
    assert_eq!((first.instances.len(), first.skipped), (63 + 10, 17));
}
