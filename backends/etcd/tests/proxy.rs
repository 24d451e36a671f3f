//! Through etcd's own proxy, which gives watches ids of its own, so that one could receive another's events.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they call")]

mod common;

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use callboard_conformance::Watcher;
use callboard_core::ErrorKind;
use callboard_servers::Program;
use common::{SOON, Servers, builder, service};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// A proxy before these servers, and where it listens.
async fn proxy(servers: &Servers) -> (Program, SocketAddr) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let endpoints: Vec<_> = servers.cluster.addresses().iter().map(ToString::to_string).collect();
    // It keeps nothing on disk.
    let proxy = Program::server("etcd")
        .args(["grpc-proxy", "start", "--endpoints", &endpoints.join(",")])
        .args(["--listen-addr", &address.to_string(), "--advertise-client-url", &address.to_string()])
        .start();
    let listens = async {
        while TcpStream::connect(address).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, listens).await.expect("the proxy listens in time");
    (proxy, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn who_watches_through_a_proxy_is_told_that_it_does_not_work() {
    let servers = Servers::one().await;
    let (_proxy, address) = proxy(&servers).await;
    let watcher = Watcher::new(Arc::new(builder([address]).build().unwrap()), &service("project/test"));
    let seen = watcher.until(SOON, "refused", |seen| seen.stale.is_some()).await;
    let error = seen.stale.unwrap().error;
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("grpc-proxy"), "{error}");
}
