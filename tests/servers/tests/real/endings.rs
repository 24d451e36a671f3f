//! Nothing outlives the test that has started it.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;

use callboard_servers::{Cluster, Program};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::net::TcpStream;

use crate::eventually;

/// A process of its own that has started a server, as a test does, the address of that server, and its process.
async fn holder(server: &str, stores_in: &Path) -> (Program, SocketAddr, Pid) {
    let program = env!("CARGO_BIN_EXE_callboard-servers");
    let holder = Program::at(program).args(server.split(' ')).env("TMPDIR", stores_in).start();
    let line = holder.line("127.0.0.1").await;
    let (address, id) = line.split_once(' ').expect("an address and a process");
    let id = id.parse().ok().and_then(Pid::from_raw).expect("the number of a process");
    (holder, address.parse().expect("an address"), id)
}

/// The listener goes with its process.
async fn is_gone(address: SocketAddr) {
    let refused = |error: io::Error| error.kind() == ErrorKind::ConnectionRefused;
    eventually("nobody listens", async || TcpStream::connect(address).await.is_err_and(refused)).await;
}

async fn is_empty(directory: &Path) {
    let entries = || fs::read_dir(directory).expect("a directory").count();
    eventually("what it stored is removed", async || entries() == 0).await;
}

async fn a_server_dies_with_a_test_that_is_killed(server: &str) {
    let directory = tempfile::tempdir().expect("a directory");
    let (test, address, _) = holder(server, directory.path()).await;
    TcpStream::connect(address).await.expect("the server listens");
    test.kill().await;
    is_gone(address).await;
    is_empty(directory.path()).await;
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn an_etcd_dies_with_a_test_that_is_killed() {
    a_server_dies_with_a_test_that_is_killed("etcd").await;
}

#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn a_zookeeper_dies_with_a_test_that_is_killed() {
    a_server_dies_with_a_test_that_is_killed("zookeeper").await;
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_consul_dies_with_a_test_that_is_killed() {
    a_server_dies_with_a_test_that_is_killed("consul").await;
}

#[tokio::test]
#[ignore = "needs nginx: make test"]
async fn an_nginx_dies_with_a_test_that_is_killed() {
    a_server_dies_with_a_test_that_is_killed("nginx 1 127.0.0.1:1").await;
}

#[tokio::test]
#[ignore = "needs HAProxy: make test"]
async fn a_haproxy_dies_with_a_test_that_is_killed() {
    a_server_dies_with_a_test_that_is_killed("haproxy 1 127.0.0.1:1").await;
}

#[tokio::test]
#[ignore = "needs nghttpx: make test"]
async fn an_nghttpx_dies_with_a_test_that_is_killed() {
    a_server_dies_with_a_test_that_is_killed("nghttpx 1 127.0.0.1:1").await;
}

#[tokio::test]
#[ignore = "needs Envoy: make test"]
async fn an_envoy_dies_with_a_test_that_is_killed() {
    a_server_dies_with_a_test_that_is_killed("envoy 1 127.0.0.1:1").await;
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn a_paused_server_dies_with_a_test_that_is_killed() {
    let directory = tempfile::tempdir().expect("a directory");
    let (test, address, server) = holder("etcd", directory.path()).await;
    kill_process(server, Signal::STOP).expect("the server runs");
    test.kill().await;
    is_gone(address).await;
    is_empty(directory.path()).await;
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn a_server_dies_with_a_test_that_is_interrupted() {
    let directory = tempfile::tempdir().expect("a directory");
    let (test, address, _) = holder("etcd", directory.path()).await;
    test.interrupt();
    assert!(!test.wait().await.success());
    is_gone(address).await;
    is_empty(directory.path()).await;
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn a_server_dies_with_a_test_that_panics() {
    let (told, hears) = tokio::sync::oneshot::channel();
    let test = tokio::spawn(async move {
        let cluster = Cluster::etcd().start().await;
        told.send(cluster.address()).expect("somebody listens");
        panic!("on purpose, with {cluster:?}");
    });
    let address = hears.await.expect("the server has started");
    assert!(test.await.is_err_and(|error| error.is_panic()));
    is_gone(address).await;
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn nothing_is_left_of_a_server() {
    let cluster = Cluster::etcd().start().await;
    let directory = cluster.node(0).directory().to_owned();
    assert!(directory.join("data").exists());
    let process = cluster.node(0).id().and_then(|id| Pid::from_raw(id.try_into().ok()?)).expect("it runs");
    test_kill_process(process).expect("it runs");
    drop(cluster);
    assert!(!directory.exists());
    assert_eq!(test_kill_process(process), Err(Errno::SRCH));
}
