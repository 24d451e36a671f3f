//! What a claim that has ended, or never came to be, leaves behind: its clean-up takes nothing that is another's.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not their helpers")]

mod common;

use std::time::Duration;

use callboard_core::{ErrorKind, Incarnation, Lease, Registry};
use callboard_raw::{Mode, Proxy};
use callboard_servers::ask;
use callboard_zookeeper::ZooKeeper;
use common::{SESSION, SOON, Zoo, directory, instance, service, until};
use tokio::time::timeout;
use zookeeper_client as zk;

/// Whoever has this lease holds it for longer than any clean-up waits, and the node is the same one all the time.
async fn stands(zoo: &Zoo, mut lease: Box<dyn Lease>) {
    let made = made(zoo).await;
    let lost = timeout(SESSION + Duration::from_secs(3), lease.lost()).await;
    assert!(lost.is_err(), "lost to what was left behind: {}", lost.unwrap().chain());
    assert_eq!(self::made(zoo).await, made, "it is the node that was made");
    lease.revoke().await.unwrap();
}

async fn made(zoo: &Zoo) -> i64 {
    let (path, _) = zoo.node_of(&service(), "a").await;
    zoo.hand().await.check_stat(&path).await.unwrap().expect("it is there").czxid
}

/// A registration that was refused, and one that succeeds when the reason is gone.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn a_refused_registration_does_not_remove_the_next_ones_node() {
    let zoo = Zoo::start(1).await;
    let (hand, zookeeper) = (zoo.hand().await, zoo.zookeeper());
    hand.mkdir(&directory(&service()), &zk::CreateMode::Persistent.with_acls(zk::Acls::anyone_all())).await.unwrap();
    hand.set_acl(&directory(&service()), &zk::Acls::anyone_read(), None).await.unwrap();
    let refused = zookeeper.register(&service(), &instance("a")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied, "{refused:?}");
    zoo.allow(&directory(&service())).await;
    stands(&zoo, zookeeper.register(&service(), &instance("a")).await.unwrap()).await;
}

/// A registration whose connection is cut while it is on its way.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn a_registration_that_was_cut_does_not_remove_the_next_ones_node() {
    let zoo = Zoo::start(1).await;
    let proxy = Proxy::to(zoo.servers.address()).await;
    let zookeeper = ZooKeeper::builder([proxy.address().to_string()]).session(SESSION).build().unwrap();
    let other = zookeeper.register(&service(), &instance("b")).await.unwrap();
    let session = zoo.node_of(&service(), "b").await.1;
    for _ in 0..3 {
        // The server sees a new connection before the client knows that it has one, and waits with what it asks until
        // then. So the client has to be answered once.
        zookeeper.put_service_config(&service(), None).await.unwrap();
        proxy.set(Mode::Delay(Duration::from_millis(500))).await;
        let (service, instance) = (service(), instance("a"));
        let cut = zookeeper.register(&service, &instance);
        let (cut, ()) = tokio::join!(cut, async {
            tokio::time::sleep(Duration::from_millis(100)).await; // it is on its way
            proxy.set(Mode::Refuse).await;
            until("it is cut", async || zoo.server_of(session).await.is_none().then_some(())).await;
            proxy.set(Mode::Pass).await;
        });
        cut.expect_err("it was cut");
    }
    stands(&zoo, zookeeper.register(&service(), &instance("a")).await.unwrap()).await;
    other.revoke().await.unwrap();
}

/// A registration whose caller has stopped waiting, and that succeeds afterwards, is removed although the session goes
/// on.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn what_a_registration_that_was_given_up_has_made_is_removed() {
    let zoo = Zoo::start(1).await;
    let proxy = Proxy::to(zoo.servers.address()).await;
    let zookeeper = ZooKeeper::builder([proxy.address().to_string()]).session(SESSION).build().unwrap();
    let other = zookeeper.register(&service(), &instance("b")).await.unwrap();
    proxy.set(Mode::Delay(Duration::from_millis(300))).await;
    let (service, instance) = (service(), instance("a"));
    tokio::select! {
        // Its answer is on its way for as long as that.
        registered = zookeeper.register(&service, &instance) => panic!("it is given up before: {registered:?}"),
        () = until("it is made", async || (zoo.nodes_of(&service, "a").await.len() == 1).then_some(())) => {}
    }
    until("it is removed", async || zoo.nodes_of(&service, "a").await.is_empty().then_some(())).await;
    proxy.set(Mode::Pass).await;
    other.revoke().await.unwrap();
}

/// One claim ends in the moment in which another client of the same process makes the same one. That it takes the
/// other's node with it must not happen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn a_claim_that_ends_leaves_another_clients_alone() {
    let zoo = Zoo::start(1).await;
    let clients = [zoo.zookeeper(), zoo.zookeeper()];
    // Sessions that last.
    let _held = [
        clients[0].register(&service(), &instance("b")).await.unwrap(),
        clients[1].register(&service(), &instance("c")).await.unwrap(),
    ];
    let mut held = clients[0].register(&service(), &instance("a")).await.unwrap();
    for round in 1..300 {
        let next = clients[round % 2].clone();
        let next = tokio::spawn(async move { next.register(&service(), &instance("a")).await });
        for _ in 0..round % 12 {
            tokio::time::sleep(Duration::from_micros(100)).await; // each round ends it at another moment
        }
        drop(held);
        held = next.await.unwrap().unwrap();
        let lost = timeout(Duration::from_millis(10), held.lost()).await;
        assert!(lost.is_err(), "round {round}: {}", lost.unwrap().chain());
    }
}

/// A newer incarnation that is taken away while its removal of the older one is on its way: the older one has come back
/// by then, or was never gone, and stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn an_older_incarnation_is_removed_only_while_the_newer_one_stands() {
    let zoo = Zoo::start(1).await;
    let proxy = Proxy::to(zoo.servers.address()).await;
    let behind = ZooKeeper::builder([proxy.address().to_string()]).session(SESSION).build().unwrap();
    let other = behind.register(&service(), &instance("b")).await.unwrap();
    let session = zoo.node_of(&service(), "b").await.1;
    let _older = zoo.zookeeper().register(&service(), &instance("a")).await.unwrap();
    let (older, _) = zoo.node_of(&service(), "a").await;
    let newer = instance("a").with_incarnation(Incarnation::fresh());
    let path = format!("{}/a--{}", directory(&service()), newer.incarnation());

    proxy.set(Mode::Delay(Duration::from_millis(700))).await;
    let registered = tokio::spawn(async move { behind.register(&service(), &newer).await });
    let hand = zoo.hand().await;
    until("it is made", async || hand.check_stat(&path).await.unwrap()).await;
    // Now it is told so, asks for the others, and is told of the older one, each a way that takes its time.
    let asked = format!("sid={session:#x},");
    until("it has asked for the others", async || {
        let connections = ask::four_letters(zoo.servers.address(), "cons").await.unwrap();
        connections.lines().any(|line| line.contains(&asked) && line.contains("lop=GETC")).then_some(())
    })
    .await;
    hand.delete(&path, None).await.unwrap();
    let lost = timeout(SOON, registered).await.unwrap().unwrap().expect_err("it is gone");
    assert_eq!(lost.kind(), ErrorKind::Lost, "{lost:?}");
    assert_eq!(zoo.node_of(&service(), "a").await.0, older, "the older one has stayed");
    proxy.set(Mode::Pass).await;
    other.revoke().await.unwrap();
}
