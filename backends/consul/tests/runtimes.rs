//! One client in two runtimes, of which the first ends or stands still.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they share")]

mod agents;

use std::time::Duration;

use agents::Agents;
use callboard_consul::Consul;
use callboard_core::{Instance, Registry, Resolver, ServiceName};
use callboard_servers::Cluster;
use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, timeout};

/// Far less than any request may take that is sent into the void.
const SOON: Duration = Duration::from_millis(1_500);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Uses several connections at once, so that some are left when it is done.
async fn works(consul: &Consul, id: &str) {
    let service: ServiceName = "project-test".parse().unwrap();
    let instance = Instance::new(id, "127.0.0.1:1".parse().unwrap()).unwrap();
    let lease = consul.register(&service, &instance).await.unwrap();
    let first = (0..6).map(|_| async { consul.watch(&service).next().await.unwrap().unwrap() });
    for set in join_all(first).await {
        assert!(!set.instances.is_empty());
    }
    lease.revoke().await.unwrap();
}

fn in_the_second_runtime(consul: &Consul, what: &str) {
    let begun = Instant::now();
    let done = runtime().block_on(async { timeout(SOON, works(consul, "b")).await });
    assert!(done.is_ok(), "{what}: nothing works for {:?}", begun.elapsed());
}

#[test]
#[ignore = "needs Consul: make test"]
fn a_client_outlives_the_runtime_that_it_was_used_in_first() {
    let servers = runtime();
    let agents = Agents::on(servers.block_on(Cluster::consul_dev().start()));
    let consul = agents.consul();
    let first = runtime();
    first.block_on(works(&consul, "a"));
    in_the_second_runtime(&consul, "while the first stands still");
    first.block_on(works(&consul, "a"));
    drop(first);
    in_the_second_runtime(&consul, "when the first has ended");
}

/// A watch that is not polled any more does not hold what other watches need.
#[test]
#[ignore = "needs Consul: make test"]
fn a_watch_in_a_runtime_that_does_not_run_holds_up_no_other() {
    let servers = runtime();
    let agents = Agents::on(servers.block_on(Cluster::consul_dev().start()));
    let consul = agents.consul();
    let (first, service) = (runtime(), "project-test".parse().unwrap());
    let mut still = consul.watch(&service);
    first.block_on(async {
        still.next().await.unwrap().unwrap();
        // A moment in which it begins to wait for more.
        assert!(timeout(Duration::from_millis(100), still.next()).await.is_err());
    });
    in_the_second_runtime(&consul, "beside a watch that stands still");
}
