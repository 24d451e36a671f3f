//! Updates that fail: the claim stands, and the next one may succeed.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not their helpers")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{ErrorKind, Lease, Registry};
use callboard_raw::{Mode, Proxy};
use callboard_servers::Cluster;
use callboard_zookeeper::ZooKeeper;
use common::{GapWatch, SESSION, SOON, Zoo, instance, service, until};
use tokio::time::timeout;
use zookeeper_client as zk;

/// How long a claim that is said to stand is watched: longer than a session, and than what is left to be removed waits.
const HELD: Duration = Duration::from_secs(9);

async fn is_held(lease: &mut dyn Lease) {
    let lost = timeout(HELD, lease.lost()).await;
    assert!(lost.is_err(), "it is held: {}", lost.unwrap().chain());
}

/// What is refused as it is changes nothing; what is taken afterwards does.
async fn is_refused_and_then_taken(zoo: &Zoo, mut lease: Box<dyn Lease>, kind: ErrorKind, cure: impl AsyncFnOnce()) {
    let gap_watch = GapWatch::over(Arc::new(zoo.zookeeper()), &service());
    gap_watch.until("before", &["a=1"]).await;
    let (path, owner) = zoo.node_of(&service(), "a").await;
    let large = instance("a").with_weight(2).with_metadata("note", "x".repeat(3000));
    for _ in 0..2 {
        let refused = lease.update(&large).await.unwrap_err();
        assert_eq!((refused.kind(), refused.service()), (kind, Some(&service())), "{refused:?}");
        assert!(refused.to_string().contains(&path), "{refused}");
    }
    is_held(lease.as_mut()).await;
    cure().await;
    lease.update(&large).await.unwrap();
    gap_watch.until("changed", &["a=2"]).await;
    gap_watch.never_missed_a_member();
    assert_eq!(zoo.node_of(&service(), "a").await, (path, owner), "it is the same node");
    is_held(lease.as_mut()).await;
    lease.revoke().await.unwrap();
    gap_watch.until("revoked", &[]).await;
}

/// The node's access list is changed so that no client may write it.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn an_update_that_the_list_forbids_keeps_the_claim() {
    let zoo = Zoo::start(1).await;
    let lease = zoo.zookeeper().register(&service(), &instance("a")).await.unwrap();
    let (path, _) = zoo.node_of(&service(), "a").await;
    zoo.hand().await.set_acl(&path, &zk::Acls::anyone_read(), None).await.unwrap();
    is_refused_and_then_taken(&zoo, lease, ErrorKind::Denied, async || zoo.allow(&path).await).await;
}

/// The service's quota is used up.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn an_update_that_exceeds_a_quota_keeps_the_claim() {
    let zoo = Zoo::with(Cluster::zookeeper().config("enforceQuota=true")).await;
    let lease = zoo.zookeeper().register(&service(), &instance("a")).await.unwrap();
    let hand = zoo.hand().await;
    let anybodys = zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all());
    let limits = "/zookeeper/quota/callboard/zookeeper_limits";
    hand.mkdir("/zookeeper/quota/callboard", &anybodys).await.unwrap();
    let quota = |bytes: u32| format!("count=-1,bytes=-1=;byteHardLimit={bytes};countHardLimit=-1").into_bytes();
    let stats = "/zookeeper/quota/callboard/zookeeper_stats";
    hand.create(limits, &quota(1000), &anybodys).await.unwrap();
    hand.create(stats, b"count=4,bytes=100", &anybodys).await.unwrap();
    let cure = async || assert!(hand.set_data(limits, &quota(100_000), None).await.is_ok());
    is_refused_and_then_taken(&zoo, lease, ErrorKind::Unavailable, cure).await;
}

/// A record that no request can carry: it is not sent, and so neither the claim nor anybody else's suffers.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn what_is_too_large_is_refused_before_it_is_sent() {
    let zoo = Zoo::start(1).await;
    let zookeeper = zoo.zookeeper();
    let mut lease = zookeeper.register(&service(), &instance("a")).await.unwrap();
    let session = zoo.node_of(&service(), "a").await.1;
    let watched = GapWatch::over(Arc::new(zookeeper.clone()), &service());
    watched.until("before", &["a=1"]).await;
    let large = |id: &str, bytes: usize| instance(id).with_metadata("note", "x".repeat(bytes));
    let config = format!(r#"{{"loadBalancingConfig":[{{"round_robin":{{}}}}],"note":"{}"}}"#, "x".repeat(1 << 20));
    let refusals = [
        lease.update(&large("a", 1 << 20)).await.unwrap_err(),
        zookeeper.register(&service(), &large("b", 1 << 20)).await.unwrap_err(),
        zookeeper.put_service_config(&service(), Some(&config)).await.unwrap_err(),
    ];
    let size = |id: &str| format!("{} bytes", callboard_core::encode(&large(id, 1 << 20)).len());
    for (refused, size) in refusals.iter().zip([size("a"), size("b"), format!("{} bytes", config.len())]) {
        assert_eq!((refused.kind(), refused.service()), (ErrorKind::Invalid, Some(&service())), "{refused:?}");
        for part in [&size, "1048575", "jute.maxbuffer", "/callboard/project/test/"] {
            assert!(refused.to_string().contains(part), "{part}: {refused}");
        }
    }
    // The largest that is not refused here is taken there, whichever way it is sent.
    let most = 0xf_ffff - 1024;
    lease.update(&large("a", most)).await.unwrap();
    let again = zoo.zookeeper().register(&service(), &large("a", most)).await.unwrap();
    again.revoke().await.unwrap();
    zookeeper.register(&service(), &large("b", most)).await.unwrap().revoke().await.unwrap();
    assert!(zoo.server_of(session).await.is_some(), "the session has gone on");
    assert_eq!(watched.seen().errors, [""; 0], "no watcher was cut off");
}

/// A server with a smaller limit needs a client with that limit.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn the_limit_is_a_setting() {
    let zoo = Zoo::with(Cluster::zookeeper().arg("-Djute.maxbuffer=20000")).await;
    let zookeeper = ZooKeeper::builder(zoo.hosts()).session(SESSION).max_request(20_000).build().unwrap();
    let mut lease = zookeeper.register(&service(), &instance("a")).await.unwrap();
    let refused = lease.update(&instance("a").with_metadata("note", "x".repeat(20_000))).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused:?}");
    lease.update(&instance("a").with_metadata("note", "x".repeat(18_900))).await.unwrap();
    let config = format!(r#"{{"note":"{}"}}"#, "x".repeat(20_000));
    let refused = zookeeper.put_service_config(&service(), Some(&config)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused:?}");
    lease.revoke().await.unwrap();
}

/// The connection is cut while an update is on its way. Whether it has arrived or not, the claim stands, and what was
/// written is known as our own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn an_update_that_is_cut_half_way_is_no_loss() {
    let zoo = Zoo::start(1).await;
    let proxy = Proxy::to(zoo.servers.address()).await;
    let zookeeper = ZooKeeper::builder([proxy.address().to_string()]).session(SESSION).build().unwrap();
    let mut lease = zookeeper.register(&service(), &instance("a")).await.unwrap();
    let (node, gap_watch) = (zoo.node_of(&service(), "a").await, GapWatch::over(Arc::new(zoo.zookeeper()), &service()));
    gap_watch.until("before", &["a=1"]).await;
    for weight in 2..5 {
        until("it is connected", async || zoo.server_of(node.1).await).await;
        proxy.set(Mode::Delay(Duration::from_millis(300))).await;
        let (changed, seen) = (instance("a").with_weight(weight), format!("a={weight}"));
        let seen = [seen.as_str()];
        {
            let mut update = lease.update(&changed);
            tokio::select! {
                // Its answer is on its way for as long as that.
                updated = &mut update => panic!("it is cut before: {updated:?}"),
                () = gap_watch.until("written", &seen) => {}
            }
            proxy.set(Mode::Refuse).await;
            // Once with an answer, and once after the caller has stopped waiting.
            if weight % 2 == 0 {
                let cut = timeout(SOON, update).await.unwrap().unwrap_err();
                assert_eq!(cut.kind(), ErrorKind::Unavailable, "{cut:?}");
            }
        }
        proxy.set(Mode::Pass).await;
        is_held(lease.as_mut()).await;
        assert_eq!(zoo.node_of(&service(), "a").await, node, "it is the same node");
    }
    // Cut before it has arrived, too.
    proxy.set(Mode::BlackHole).await;
    let changed = instance("a").with_weight(7);
    let swallowed = timeout(Duration::from_millis(300), lease.update(&changed)).await;
    assert!(swallowed.is_err(), "there is no answer: {swallowed:?}");
    proxy.set(Mode::Pass).await;
    until("it can be updated again", async || lease.update(&instance("a").with_weight(8)).await.ok()).await;
    gap_watch.until("updated", &["a=8"]).await;
    gap_watch.never_missed_a_member();
    is_held(lease.as_mut()).await;
    lease.revoke().await.unwrap();
}
