//! A service's config: its node and access list, and that no change of it is missed.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not their helpers")]

mod common;

use std::sync::Arc;

use callboard_conformance::{Harness, Seen, Watcher};
use callboard_core::{ErrorKind, Registry, Resolver, Snapshot, Snapshots};
use callboard_raw::{Mode, Proxy};
use callboard_zookeeper::ZooKeeper;
use common::{SESSION, SOON, Zoo, config_of, directory, instance, service};
use futures_util::StreamExt;
use tokio::time::timeout;
use zookeeper_client as zk;

const ONE: &str = r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#;
const OTHER: &str = r#"{"loadBalancingConfig":[{"pick_first":{}}]}"#;

fn known(zoo: &Zoo, password: &str) -> ZooKeeper {
    ZooKeeper::builder(zoo.hosts()).session(SESSION).digest("app", password).build().unwrap()
}

fn anybodys() -> zk::CreateOptions<'static> {
    zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all())
}

async fn next(watch: &mut Snapshots) -> Snapshot {
    timeout(SOON, watch.next()).await.expect("a set").expect("it has not ended").unwrap()
}

/// The next set whose config is this one.
async fn until(watch: &mut Snapshots, config: Option<&[u8]>) -> Snapshot {
    loop {
        let set = next(watch).await;
        if set.config.as_deref() == config {
            return set;
        }
    }
}

/// It is a persistent node with the access list of the service's nodes, and all clients may read it.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn a_config_is_a_node_with_the_access_of_all_others() {
    let zoo = Zoo::start(1).await;
    known(&zoo, "hunter2").put_service_config(&service(), Some(ONE)).await.unwrap();
    let hand = zoo.hand().await;
    let (data, stat) = hand.get_data(&config_of(&service())).await.unwrap();
    assert_eq!((data.as_slice(), stat.ephemeral_owner), (ONE.as_bytes(), 0));
    assert_eq!(hand.set_data(&config_of(&service()), b"{}", None).await.unwrap_err(), zk::Error::NoAuth);
    assert_eq!(hand.delete(&directory(&service()), None).await.unwrap_err(), zk::Error::NoAuth, "its parent too");
    for config in [Some(OTHER), None] {
        let refused = known(&zoo, "guessed").put_service_config(&service(), config).await.unwrap_err();
        assert_eq!((refused.kind(), refused.service()), (ErrorKind::Denied, Some(&service())), "{refused:?}");
        assert!(refused.to_string().contains("/callboard/project/test/@config"), "{refused}");
    }
    known(&zoo, "hunter2").put_service_config(&service(), None).await.unwrap();
    assert_eq!(hand.check_stat(&config_of(&service())).await.unwrap(), None);
}

/// The former content and other writers do not matter: the last write wins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn several_who_put_and_remove_a_config_at_once_are_no_error() {
    let zoo = Zoo::start(1).await;
    for _ in 0..10 {
        let writers = [Some(ONE), Some(OTHER), None, Some(ONE), None].map(|config| {
            let registry = zoo.zookeeper();
            async move {
                for _ in 0..5 {
                    registry.put_service_config(&service(), config).await.unwrap();
                }
            }
        });
        futures_util::future::join_all(writers).await;
    }
    zoo.zookeeper().put_service_config(&service(), Some(OTHER)).await.unwrap();
    assert_eq!(zoo.hand().await.get_data(&config_of(&service())).await.unwrap().0, OTHER.as_bytes());
}

/// Not even for a service without any node, one node after the other, as a person makes them.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn a_config_is_noticed_where_nothing_was() {
    let zoo = Zoo::start(1).await;
    let mut watch = zoo.zookeeper().watch(&service());
    assert_eq!(next(&mut watch).await, Snapshot::default());
    let hand = zoo.hand().await;
    for path in ["/callboard", "/callboard/project", "/callboard/project/test"] {
        hand.create(path, b"", &anybodys()).await.unwrap();
    }
    assert_eq!(next(&mut watch).await, Snapshot::default(), "the service's node is there");
    hand.create(&config_of(&service()), ONE.as_bytes(), &anybodys()).await.unwrap();
    let set = next(&mut watch).await;
    assert_eq!((set.config.as_deref(), set.skipped), (Some(ONE.as_bytes()), 0));
    // `create` without data, and then all is taken away again.
    hand.delete(&config_of(&service()), None).await.unwrap();
    assert_eq!(until(&mut watch, None).await, Snapshot::default());
    hand.create(&config_of(&service()), b"", &anybodys()).await.unwrap();
    assert_eq!(next(&mut watch).await.config.as_deref(), Some(&b""[..]), "an empty config is not none");
    hand.delete(&config_of(&service()), None).await.unwrap();
    hand.delete(&directory(&service()), None).await.unwrap();
    until(&mut watch, None).await;
}

/// Whatever else happens, and also if the same is written again.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn a_config_that_has_not_changed_is_the_same_allocation() {
    let zoo = Zoo::start(1).await;
    zoo.put_config(&service(), Some(ONE.as_bytes())).await;
    let mut watch = zoo.zookeeper().watch(&service());
    let first = next(&mut watch).await.config.unwrap();
    let _lease = zoo.zookeeper().register(&service(), &instance("a")).await.unwrap();
    let set = next(&mut watch).await;
    assert_eq!(set.instances.len(), 1);
    assert!(Arc::ptr_eq(&first, &set.config.unwrap()));
    zoo.put_config(&service(), Some(ONE.as_bytes())).await;
    assert!(Arc::ptr_eq(&first, &next(&mut watch).await.config.unwrap()));
}

/// A config that may not be read is no config that is not there.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn a_config_that_may_not_be_read_is_denied_and_named() {
    let zoo = Zoo::start(1).await;
    let _lease = zoo.zookeeper().register(&service(), &instance("a")).await.unwrap();
    let owner = zk::Client::connector().with_auth("digest", b"app:hunter2");
    let hand = owner.connect(&zoo.hosts().join(",")).await.unwrap();
    let secret = zk::CreateMode::Persistent.with_acls(zk::Acls::creator_all());
    let watcher = Watcher::new(zoo.resolver(), &service());
    watcher.until_ids(SOON, "before", &["a"]).await;
    hand.create(&config_of(&service()), ONE.as_bytes(), &secret).await.unwrap();
    let denied = |seen: &Seen| seen.stale.as_ref().is_some_and(|stale| stale.error.kind() == ErrorKind::Denied);
    let seen = watcher.until(SOON, "denied, with its set kept", denied).await;
    assert_eq!(seen.ids(), ["a"]);
    let error = seen.stale.unwrap().error;
    assert!(error.to_string().ends_with("cannot read /callboard/project/test/@config"), "{error}");
    let set = next(&mut known(&zoo, "hunter2").watch(&service())).await;
    assert_eq!((set.config.as_deref(), set.instances.len()), (Some(ONE.as_bytes()), 1));
}

/// Made, written and removed faster than it can be read: the last state is seen, every time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn however_fast_a_config_changes_the_last_one_is_seen() {
    let zoo = Zoo::start(1).await;
    let (hand, path) = (zoo.hand().await, config_of(&service()));
    hand.mkdir(&directory(&service()), &anybodys()).await.unwrap();
    let mut watch = zoo.zookeeper().watch(&service());
    for round in 0..60 {
        let last = format!(r#"{{"round":{round}}}"#);
        // Each round ends at another distance from the moment at which the watch reads again.
        for step in 0..=round % 7 {
            let _ = hand.delete(&path, None).await;
            hand.create(&path, format!("{step}").as_bytes(), &anybodys()).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(round % 5 * 4)).await;
        }
        if round % 3 == 0 {
            hand.delete(&path, None).await.unwrap();
            until(&mut watch, None).await;
        } else {
            hand.set_data(&path, last.as_bytes(), None).await.unwrap();
            until(&mut watch, Some(last.as_bytes())).await;
        }
    }
}

/// What happens to it while the connection is away is found out when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn a_change_during_an_outage_is_seen_after_it() {
    let zoo = Zoo::start(1).await;
    let proxy = Proxy::to(zoo.servers.address()).await;
    let behind = ZooKeeper::builder([proxy.address().to_string()]).build().unwrap();
    let watcher = Watcher::new(Arc::new(behind), &service());
    watcher.until(SOON, "at first", |seen| seen.set.is_some()).await;
    for config in [Some(ONE), Some(OTHER), None] {
        proxy.set(Mode::Refuse).await;
        zoo.put_config(&service(), config.map(str::as_bytes)).await;
        proxy.set(Mode::Pass).await;
        let right = |seen: &Seen| seen.config.as_deref() == config.map(str::as_bytes) && seen.stale.is_none();
        watcher.until(SOON, &format!("{config:?}"), right).await;
    }
}
