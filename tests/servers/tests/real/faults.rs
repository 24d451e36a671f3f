//! What can be done to each kind of server.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::stores::Store;
use crate::stores::consul::Consul;
use crate::stores::etcd::Etcd;
use crate::stores::zookeeper::Zookeeper;
use crate::{ANSWERS, eventually};

async fn a_restart_keeps_what_is_stored(store: &dyn Store) {
    let cluster = store.filled().await;
    let (before, address) = (cluster.node(0).id(), cluster.address());
    cluster.kill().await;
    assert_eq!(cluster.node(0).id(), None);
    assert_eq!(TcpStream::connect(address).await.expect_err("nobody listens").kind(), ErrorKind::ConnectionRefused);
    cluster.start().await;
    assert_ne!(cluster.node(0).id(), before);
    assert_eq!(cluster.address(), address);
    assert!(store.has(address).await.expect(ANSWERS));
}

async fn a_wipe_loses_what_is_stored(store: &dyn Store) {
    let cluster = store.filled().await;
    let address = cluster.address();
    cluster.wipe().await;
    assert_eq!(cluster.address(), address);
    assert!(!store.has(address).await.expect(ANSWERS));
}

async fn a_paused_server_is_silent_until_it_is_resumed(store: &dyn Store) {
    let cluster = store.filled().await;
    cluster.pause();
    let mut question = Box::pin(store.has(cluster.address()));
    assert!(timeout(Duration::from_secs(1), &mut question).await.is_err(), "a paused server answers");
    cluster.resume();
    assert!(question.await.expect(ANSWERS));
}

async fn a_paused_server_can_be_killed(store: &dyn Store) {
    let cluster = store.filled().await;
    cluster.pause();
    cluster.restart().await;
    assert!(store.has(cluster.address()).await.expect(ANSWERS));
}

async fn three_survive_the_loss_of_one(store: &dyn Store) {
    let cluster = store.setup().nodes(3).start().await;
    assert_eq!(cluster.addresses().len(), 3);
    let lost = cluster.leader().await;
    cluster.node(lost).kill().await;
    let next = cluster.leader().await;
    assert_ne!(next, lost);
    eventually("the others store it", async || store.put(cluster.node(next).address()).await.is_ok()).await;
    cluster.node(lost).start().await;
    let returned = cluster.node(lost).address();
    eventually("the lost one has learnt it", async || store.has(returned).await.is_ok_and(|has| has)).await;
}

async fn an_isolated_member_stores_nothing(store: &dyn Store) {
    let cluster = store.setup().nodes(3).start().await;
    let alone = cluster.leader().await;
    let address = cluster.node(alone).address();
    cluster.isolate(alone).await;
    eventually("it says that it cannot", async || store.put(address).await.is_err()).await;
    cluster.heal(alone).await;
    eventually("it can again", async || {
        store.put(address).await.is_ok() || store.has(address).await.is_ok_and(|has| has)
    })
    .await;
}

mod etcd {
    use super::*;

    #[tokio::test]
    #[ignore = "needs etcd: make test"]
    async fn a_restart_keeps_what_is_stored() {
        super::a_restart_keeps_what_is_stored(&Etcd).await;
    }

    #[tokio::test]
    #[ignore = "needs etcd: make test"]
    async fn a_wipe_loses_what_is_stored() {
        super::a_wipe_loses_what_is_stored(&Etcd).await;
    }

    #[tokio::test]
    #[ignore = "needs etcd: make test"]
    async fn a_paused_server_is_silent_until_it_is_resumed() {
        super::a_paused_server_is_silent_until_it_is_resumed(&Etcd).await;
    }

    #[tokio::test]
    #[ignore = "needs etcd: make test"]
    async fn a_paused_server_can_be_killed() {
        super::a_paused_server_can_be_killed(&Etcd).await;
    }

    #[tokio::test]
    #[ignore = "needs etcd: make test"]
    async fn three_survive_the_loss_of_one() {
        super::three_survive_the_loss_of_one(&Etcd).await;
    }

    #[tokio::test]
    #[ignore = "needs etcd: make test"]
    async fn an_isolated_member_stores_nothing() {
        super::an_isolated_member_stores_nothing(&Etcd).await;
    }

    #[tokio::test]
    #[ignore = "needs etcd: make test"]
    async fn the_others_go_on_without_an_isolated_member() {
        let cluster = Etcd.setup().nodes(3).start().await;
        let alone = cluster.leader().await;
        let address = cluster.node(alone).address();
        let other = cluster.node((alone + 1) % 3).address();
        cluster.isolate(alone).await;
        eventually("it says that it cannot", async || Etcd.put(address).await.is_err()).await;
        eventually("the others store it", async || Etcd.put(other).await.is_ok()).await;
        assert!(Etcd.has(address).await.is_err(), "cut off, it knows what the others have stored");
        cluster.heal(alone).await;
        eventually("it has learnt it", async || Etcd.has(address).await.is_ok_and(|has| has)).await;
    }
}

mod zookeeper {
    use super::*;

    #[tokio::test]
    #[ignore = "needs ZooKeeper: make test"]
    async fn a_restart_keeps_what_is_stored() {
        super::a_restart_keeps_what_is_stored(&Zookeeper).await;
    }

    #[tokio::test]
    #[ignore = "needs ZooKeeper: make test"]
    async fn a_wipe_loses_what_is_stored() {
        super::a_wipe_loses_what_is_stored(&Zookeeper).await;
    }

    #[tokio::test]
    #[ignore = "needs ZooKeeper: make test"]
    async fn a_paused_server_is_silent_until_it_is_resumed() {
        super::a_paused_server_is_silent_until_it_is_resumed(&Zookeeper).await;
    }

    #[tokio::test]
    #[ignore = "needs ZooKeeper: make test"]
    async fn a_paused_server_can_be_killed() {
        super::a_paused_server_can_be_killed(&Zookeeper).await;
    }

    #[tokio::test]
    #[ignore = "needs ZooKeeper: make test"]
    async fn three_survive_the_loss_of_one() {
        super::three_survive_the_loss_of_one(&Zookeeper).await;
    }

    #[tokio::test]
    #[ignore = "needs ZooKeeper: make test"]
    async fn an_isolated_member_stores_nothing() {
        super::an_isolated_member_stores_nothing(&Zookeeper).await;
    }
}

mod consul {
    use super::*;

    #[tokio::test]
    #[ignore = "needs Consul: make test"]
    async fn a_restart_keeps_what_is_stored() {
        super::a_restart_keeps_what_is_stored(&Consul).await;
    }

    #[tokio::test]
    #[ignore = "needs Consul: make test"]
    async fn a_wipe_loses_what_is_stored() {
        super::a_wipe_loses_what_is_stored(&Consul).await;
    }

    #[tokio::test]
    #[ignore = "needs Consul: make test"]
    async fn a_paused_server_is_silent_until_it_is_resumed() {
        super::a_paused_server_is_silent_until_it_is_resumed(&Consul).await;
    }

    #[tokio::test]
    #[ignore = "needs Consul: make test"]
    async fn a_paused_server_can_be_killed() {
        super::a_paused_server_can_be_killed(&Consul).await;
    }

    #[tokio::test]
    #[ignore = "needs Consul: make test"]
    async fn three_survive_the_loss_of_one() {
        super::three_survive_the_loss_of_one(&Consul).await;
    }

    #[tokio::test]
    #[ignore = "needs Consul: make test"]
    async fn an_isolated_member_stores_nothing() {
        super::an_isolated_member_stores_nothing(&Consul).await;
    }
}
