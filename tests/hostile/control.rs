//! Lists of addresses without measure, and records that change all the time.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use callboard::lookaside::v1::Server;
use callboard::{ChannelBuilder, Instance, InstanceKind, Resolver, ServiceName, Snapshot, Snapshots};
use callboard_raw::Peer;
use futures_util::{StreamExt, stream};
use tokio::time::sleep;

use crate::common::lookaside::Balancer;
use crate::common::silent::{DeafEverywhere, Refusing, loopback};
use crate::scene::Scene;
use crate::trial::{ROLE, Trial};

/// So many make a list that is longer than any service.
const MANY: usize = 100_000;

/// A balancer whose list has these addresses.
async fn listing(scene: &Scene, addresses: impl Iterator<Item = SocketAddr>) -> Balancer {
    let balancer = Balancer::listing(addresses.map(|address| Server::at(address, ""))).await;
    scene.register("balancer", balancer.address().try_into().unwrap(), InstanceKind::Balancer).await;
    balancer
}

#[test]
fn a_list_of_a_hundred_thousand_addresses_that_refuse() {
    let trial = Trial::of("control::a_list_of_a_hundred_thousand_addresses_that_refuse");
    Trial { lasting: Duration::from_secs(5), growth: 64, ..trial }.run(async |scene| {
        let refusing = Refusing::new();
        // Whoever would listen at all addresses of this port finds it taken.
        let port = refusing.port();
        (listing(scene, loopback(port).take(MANY)).await, refusing)
    });
}

#[test]
fn a_list_of_a_hundred_thousand_addresses_that_are_silent() {
    let trial = Trial::of("control::a_list_of_a_hundred_thousand_addresses_that_are_silent");
    Trial { lasting: Duration::from_secs(5), growth: 64, ..trial }.run(async |scene| {
        let deaf = DeafEverywhere::new();
        (listing(scene, loopback(deaf.port()).take(MANY)).await, deaf)
    });
}

/// A registry that lists a hundred thousand instances while there is a file of this name in its root.
const FLOOD: &str = "flood";

#[test]
fn a_registry_of_a_hundred_thousand_addresses() {
    let trial = Trial::of("control::a_registry_of_a_hundred_thousand_addresses");
    let configure = |builder: ChannelBuilder| builder.resolver(Flood::new(std::env::var_os(ROLE).unwrap().into()));
    Trial { configure, lasting: Duration::from_secs(5), growth: 64, ..trial }.run(async |scene| {
        std::fs::write(scene.root().join(FLOOD), b"").unwrap();
        // Dropped with the attack.
        TempFile(scene.root().join(FLOOD))
    });
}

struct TempFile(PathBuf);

impl Drop for TempFile {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

#[derive(Debug)]
struct Flood {
    root: PathBuf,
    registry: Arc<dyn Resolver>,
    many: Vec<Arc<Instance>>,
}

impl Flood {
    fn new(root: PathBuf) -> Self {
        let many = loopback(1).take(MANY).map(|address| Arc::new(Instance::at(address.try_into().unwrap()).unwrap()));
        let (registry, _) = callboard::resolver(&format!("file://{}/project/hostile", root.display())).unwrap();
        Self { registry, root, many: many.collect() }
    }
}

impl Resolver for Flood {
    fn watch(&self, service: &ServiceName) -> Snapshots {
        let (file, many) = (self.root.join(FLOOD), self.many.clone());
        let looks = stream::unfold(false, move |was| {
            let file = file.clone();
            async move {
                while file.exists() == was {
                    sleep(Duration::from_millis(50)).await;
                }
                Some((!was, !was))
            }
        });
        let flooded = looks.map(move |flooded| Said::Flood(flooded.then(|| many.clone())));
        let registry = self.registry.watch(service).map(|said| Said::Registry(said.unwrap()));
        let latest = stream::select(flooded, registry).scan(Snapshot::default(), |calm, said| {
            let next = match said {
                Said::Flood(Some(many)) => Snapshot::new(many),
                Said::Flood(None) => calm.clone(),
                Said::Registry(said) => {
                    *calm = said;
                    calm.clone()
                }
            };
            std::future::ready(Some(Ok(next)))
        });
        latest.boxed()
    }
}

enum Said {
    Flood(Option<Vec<Arc<Instance>>>),
    Registry(Snapshot),
}

#[test]
fn lists_of_two_thousand_silent_addresses_that_change_all_the_time() {
    let trial = Trial::of("control::lists_of_two_thousand_silent_addresses_that_change_all_the_time");
    Trial { lasting: Duration::from_secs(5), growth: 64, ..trial }.run(async |scene| {
        let deaf = DeafEverywhere::new();
        let balancer = listing(scene, loopback(deaf.port()).take(2_000)).await;
        let all: Vec<_> = loopback(deaf.port()).take(6_000).map(|address| Server::at(address, "")).collect();
        let changes = tokio::spawn(async move {
            for round in 0.. {
                balancer.list(all[round % 3 * 2_000..].iter().take(2_000).cloned());
                sleep(Duration::from_millis(200)).await;
            }
        });
        (deaf, Ended(changes.abort_handle()))
    });
}

#[test]
fn a_record_of_a_balancer_where_nobody_listens() {
    Trial::of("control::a_record_of_a_balancer_where_nobody_listens").run(async |scene| {
        let refusing = Refusing::new();
        scene.register("balancer", refusing.address.clone(), InstanceKind::Balancer).await;
        scene.raw("good", |peer| callboard_raw::serve("good", peer)).await;
        refusing
    });
}

#[test]
fn a_server_that_hangs_up_and_is_said_to_restart_all_the_time() {
    Trial::of("control::a_server_that_hangs_up_and_is_said_to_restart_all_the_time").run(async |scene| {
        let server = callboard_raw::RawServer::start(|peer: Peer| async move { peer.cut() }).await.unwrap();
        let restarts = scene.restarts("a", server.address().try_into().unwrap(), Duration::from_millis(5));
        (server, Ended(restarts))
    });
}

/// Ends a task when it is dropped.
struct Ended(tokio::task::AbortHandle);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}
