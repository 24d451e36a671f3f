//! One `Etcd` that is used from several runtimes, which begin and end when they like.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they call")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use callboard_conformance::Watcher;
use callboard_core::{ErrorKind, Lease, Registry, Resolver};
use callboard_etcd::Etcd;
use common::{SOON, Servers, TTL, instance, key, service};
use futures_util::StreamExt;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Everything that can be asked of etcd, each once and at the first attempt.
async fn everything(etcd: &Etcd) {
    let service = service("project/everything");
    etcd.put_service_config(&service, Some("{}")).await.unwrap();
    let mut lease = etcd.register(&service, &instance("a", 1)).await.unwrap();
    let mut watch = etcd.watch(&service);
    let mut next = async || timeout(SOON, watch.next()).await.expect("in time").expect("not the end").unwrap();
    assert_eq!(next().await.instances.len(), 1);
    lease.update(&instance("a", 1).with_weight(2)).await.unwrap();
    assert_eq!(next().await.instances[0].weight(), 2);
    lease.revoke().await.unwrap();
    assert!(next().await.instances.is_empty());
}

#[test]
#[ignore = "needs etcd: make test"]
fn a_runtime_that_has_ended_takes_nothing_with_it() {
    let outside = runtime();
    let servers = outside.block_on(Servers::one());
    let etcd = servers.etcd();
    for _ in 0..3 {
        let runtime = runtime();
        runtime.block_on(everything(&etcd));
        drop(runtime);
    }
    drop((etcd, outside.block_on(async { servers })));
}

#[test]
#[ignore = "needs etcd: make test"]
fn what_another_runtime_has_open_goes_on_when_the_one_that_connected_ends() {
    let outside = runtime();
    let servers = outside.block_on(Servers::one());
    let (etcd, service) = (servers.etcd(), service("project/test"));
    let (first, second) = (runtime(), runtime());
    first.block_on(everything(&etcd));
    let mut short: Box<dyn Lease> = first.block_on(etcd.register(&service, &instance("short", 1))).unwrap();
    let (watcher, mut long) = second.block_on(async {
        let watcher = Watcher::new(Arc::new(etcd.clone()), &service);
        let long = etcd.register(&service, &instance("long", 2)).await.unwrap();
        watcher.until_ids(SOON, "both", &["long", "short"]).await;
        (watcher, long)
    });
    drop(first);
    second.block_on(async {
        // What the runtime that ended kept alive is lost, and says so to whoever asks.
        let lost = timeout(SOON, short.lost()).await.expect("it is known that nothing keeps it alive");
        assert_eq!(lost.kind(), ErrorKind::Lost, "{lost:?}");
        drop(short);
        watcher.until_ids(SOON, "its time to live ends it", &["long"]).await;
        everything(&etcd).await;
        let lost = timeout(TTL * 2, long.lost()).await;
        assert!(lost.is_err(), "{lost:?}");
        long.update(&instance("long", 2).with_weight(7)).await.unwrap();
        let changed = |seen: &callboard_conformance::Seen| seen.instance("long").is_some_and(|long| long.weight() == 7);
        watcher.until(SOON, "the watch goes on", changed).await;
        let there = servers.client().await.get(key(&service, "long"), None).await.unwrap();
        assert_eq!(there.kvs()[0].version(), 2, "it is the same entry");
        assert_eq!(watcher.seen().emptied, 0);
        long.revoke().await.unwrap();
        drop((watcher, etcd));
    });
}

/// A runtime of one thread does nothing while nothing blocks on it. Other runtimes must not depend on what it has open.
#[test]
#[ignore = "needs etcd: make test"]
fn a_runtime_that_stands_still_holds_nobody_up() {
    let outside = runtime();
    let servers = outside.block_on(Servers::one());
    let etcd = servers.etcd();
    let still = Builder::new_current_thread().enable_all().build().unwrap();
    still.block_on(everything(&etcd));
    let other = runtime();
    other.block_on(async { timeout(Duration::from_secs(1), everything(&etcd)).await.expect("at once") });
    still.block_on(everything(&etcd));
}
