//! Access lists, and where nodes are.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not their helpers")]

mod common;

use std::sync::Arc;

use callboard_conformance::Log;
use callboard_core::{Error, ErrorKind, Incarnation, Registry, Resolver, Target};
use callboard_servers::page;
use callboard_zookeeper::{ZooKeeper, ZooKeeperAccess};
use common::{GapWatch, SESSION, Zoo, directory, instance, service};
use futures_util::StreamExt;
use zookeeper_client as zk;

fn known(zoo: &Zoo, password: &str) -> ZooKeeper {
    ZooKeeper::builder(zoo.hosts()).session(SESSION).digest("app", password).build().unwrap()
}

/// With a user and a password, the nodes belong to clients with the same; others may only read.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn what_is_made_with_a_password_is_changed_with_it_alone() {
    let zoo = Zoo::start(1).await;
    let mut lease = known(&zoo, "hunter2").register(&service(), &instance("a")).await.unwrap();
    let (path, _) = zoo.node_of(&service(), "a").await;

    // A person without the password, or with another one.
    let stranger = zk::Client::connector().with_auth("digest", b"app:guessed");
    for hand in [zoo.hand().await, stranger.connect(&zoo.hosts().join(",")).await.unwrap()] {
        assert_eq!(hand.delete(&path, None).await, Err(zk::Error::NoAuth));
        assert_eq!(hand.set_data(&path, b"{}", None).await.unwrap_err(), zk::Error::NoAuth);
        let node = zk::CreateMode::Ephemeral.with_acls(zk::Acls::anyone_all());
        let created = hand.create(&format!("{}/b--1", directory(&service())), b"{}", &node).await;
        assert_eq!(created.unwrap_err(), zk::Error::NoAuth);
        hand.get_data(&path).await.expect("everybody may read");
    }

    // With a wrong password, clients may read and servers may not register.
    let wrong = known(&zoo, "guessed");
    GapWatch::over(Arc::new(wrong.clone()), &service()).until("anybody may look", &["a=1"]).await;
    let refused = wrong.register(&service(), &instance("b")).await.unwrap_err();
    assert_eq!((refused.kind(), refused.service()), (ErrorKind::Denied, Some(&service())), "{refused:?}");
    assert!(!format!("{refused:?} {}", refused.chain()).contains("guessed"), "{refused:?}");

    // A restart of the server itself, with the password, takes its place over.
    let newer = instance("a").with_weight(3).with_incarnation(Incarnation::fresh());
    let other = known(&zoo, "hunter2").register(&service(), &newer).await.unwrap();
    assert_eq!(lease.lost().await.kind(), ErrorKind::Conflict);
    other.revoke().await.unwrap();
}

/// A service that may not be read is no empty set.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn a_service_that_may_not_be_read_is_denied() {
    let zoo = Zoo::start(1).await;
    let owner = zk::Client::connector().with_auth("digest", b"app:hunter2");
    let hand = owner.connect(&zoo.hosts().join(",")).await.unwrap();
    let secret = zk::CreateMode::Persistent.with_acls(zk::Acls::creator_all());
    hand.mkdir(&directory(&service()), &secret).await.unwrap();
    let first = zoo.zookeeper().watch(&service()).next().await.unwrap().unwrap_err();
    assert_eq!((first.kind(), first.service()), (ErrorKind::Denied, Some(&service())), "{first:?}");
    let first = known(&zoo, "hunter2").watch(&service()).next().await.unwrap().unwrap();
    assert!(first.instances.is_empty());
}

/// A record that may not be read counts as one that cannot be.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn a_record_that_may_not_be_read_is_skipped_and_counted() {
    let zoo = Zoo::start(1).await;
    let _lease = zoo.zookeeper().register(&service(), &instance("a")).await.unwrap();
    let owner = zk::Client::connector().with_auth("digest", b"app:hunter2");
    let hand = owner.connect(&zoo.hosts().join(",")).await.unwrap();
    let secret = zk::CreateMode::Ephemeral.with_acls(zk::Acls::creator_all());
    hand.create(&format!("{}/b--1", directory(&service())), b"{}", &secret).await.unwrap();
    let first = zoo.zookeeper().watch(&service()).next().await.unwrap().unwrap();
    assert_eq!((first.instances.len(), first.skipped), (1, 1));
}

/// A password that no other client has, and nodes that all clients may change.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn access_may_be_open_in_spite_of_a_password() {
    let zoo = Zoo::start(1).await;
    let builder =
        ZooKeeper::builder(zoo.hosts()).session(SESSION).digest("app", "hunter2").access(ZooKeeperAccess::Open);
    let mut lease = builder.build().unwrap().register(&service(), &instance("a")).await.unwrap();
    zoo.hand().await.delete(&zoo.node_of(&service(), "a").await.0, None).await.unwrap();
    assert_eq!(lease.lost().await.kind(), ErrorKind::Lost);
}

/// A URL with everything: the root is below the chroot, and both are made.
#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn root_and_chroot_are_made_and_kept_to() {
    let zoo = Zoo::start(1).await;
    let hosts = zoo.hosts().join(",");
    let url = format!("zookeeper://app:hunter2@{hosts}/project/test?root=/services&chroot=/x/y&session=6s&acl=creator");
    let target: Target = url.parse().unwrap();
    let mut options = target.options();
    let zookeeper = ZooKeeper::from_target(&target, &mut options).unwrap();
    options.finish().unwrap();
    let _lease = zookeeper.register(&service(), &instance("a")).await.unwrap();

    let hand = zk::Client::connect(&format!("{hosts}/x/y")).await.unwrap();
    let names = hand.list_children("/services/project/test").await.unwrap();
    assert_eq!(names, [format!("a--{}", Incarnation::of_this_process())]);
    GapWatch::over(Arc::new(zookeeper), &service()).until("below the chroot", &["a=1"]).await;
    let outside = zoo.zookeeper().watch(&service()).next().await.unwrap().unwrap();
    assert!(outside.instances.is_empty());
}

/// No password is in what this crate and the client library log, at any level.
#[tokio::test(flavor = "current_thread")]
#[ignore = "needs ZooKeeper: make test"]
async fn a_password_is_not_logged() {
    let (log, zoo) = (Log::default(), Zoo::start(1).await);
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let lease = known(&zoo, "hunter2").register(&service(), &instance("a")).await.unwrap();
    lease.revoke().await.unwrap();
    drop(guard);
    let log = log.take();
    assert!(log.contains("sending request"), "the log of the library is included: {log}");
    assert!(!log.contains("hunter2") && !log.contains(&format!("{:?}", b"hunter2")), "{log}");
}

fn denied<T>(what: &str, result: Result<T, Error>) {
    let error = result.err().unwrap_or_else(|| panic!("{what} is permitted"));
    assert_eq!(error.kind(), ErrorKind::Denied, "{what}: {error:?}");
}

/// Does what `zkCli.sh` would, which is in no ZooKeeper that has only what a server needs.
async fn type_in(zoo: &Zoo, commands: &str) {
    let mut hand = zoo.hand().await;
    for command in commands.lines() {
        match command.split(' ').collect::<Vec<_>>()[..] {
            ["addauth", scheme, shown] => {
                let connector = zk::Client::connector().with_auth(scheme, shown.as_bytes());
                hand = connector.connect(&zoo.hosts().join(",")).await.unwrap();
            }
            ["create", path, data, list] => {
                let list: Vec<_> = list.split(',').map(acl).collect();
                let node = zk::CreateMode::Persistent.with_acls(list.as_slice().into());
                hand.create(path, data.trim_matches('"').as_bytes(), &node).await.unwrap();
            }
            _ => panic!("{command}"),
        }
    }
}

/// `scheme:id:cdrwa`, where the id may have a `:` in it.
fn acl(text: &str) -> zk::Acl {
    use zk::Permission as P;
    let ((scheme, rest), (_, letters)) = (text.split_once(':').unwrap(), text.rsplit_once(':').unwrap());
    let id = rest.strip_suffix(letters).and_then(|id| id.strip_suffix(':')).unwrap();
    let permissions = letters.chars().map(|letter| match letter {
        'c' => P::CREATE,
        'd' => P::DELETE,
        'r' => P::READ,
        'w' => P::WRITE,
        'a' => P::ADMIN,
        other => panic!("{other} in {text}"),
    });
    zk::Acl::new(permissions.fold(P::NONE, |all, one| all | one), zk::AuthId::new(scheme, id))
}

/// As they stand in the guide's page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn the_rights_that_the_guide_gives_are_enough_and_no_more() {
    let zoo = Zoo::start(1).await;
    let hosts = zoo.hosts().join(",");
    let variables = [("ZOOKEEPER", hosts.as_str()), ("SERVER_PASSWORD", "s"), ("OPERATOR_PASSWORD", "o")];
    let commands = page::run("who-may-write-what.md", "ZooKeeper", &variables, &[("zkCli.sh", "exec cat")]).await;
    type_in(&zoo, &commands).await;
    let of = |user: &str, password: &str| {
        ZooKeeper::builder(zoo.hosts()).session(SESSION).digest(user, password).build().unwrap()
    };
    let (server, operator, client) = (of("server", "s"), of("operator", "o"), zoo.zookeeper());
    let mut lease = server.register(&service(), &instance("a")).await.unwrap();
    lease.update(&instance("a").with_weight(2)).await.unwrap();
    operator.put_service_config(&service(), Some("[]")).await.unwrap();
    let first = client.watch(&service()).next().await.unwrap().unwrap();
    assert_eq!((first.instances[0].weight(), first.config.as_deref()), (2, Some(&b"[]"[..])));

    let other = "project/other".parse().unwrap();
    denied("a server's record of another service", server.register(&other, &instance("a")).await);
    denied("a server's config", server.put_service_config(&service(), Some("{}")).await);
    denied("a client's record", client.register(&service(), &instance("b")).await);
    denied("a client's config", client.put_service_config(&service(), Some("{}")).await);
    denied("a record with a guessed password", of("server", "guessed").register(&service(), &instance("b")).await);
    let (path, _) = zoo.node_of(&service(), "a").await;
    assert_eq!(zoo.hand().await.set_data(&path, b"{}", None).await.unwrap_err(), zk::Error::NoAuth);
    assert_eq!(zoo.hand().await.delete(&directory(&service()), None).await, Err(zk::Error::NoAuth));
    lease.revoke().await.unwrap();
}
