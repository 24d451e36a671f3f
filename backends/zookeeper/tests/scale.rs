//! What a thousand services over one client cost, while nothing happens and through an outage.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not their helpers")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use callboard_core::{Registry, ServiceName, WatchSettings, watch};
use callboard_raw::{Mode, Proxy};
use callboard_zookeeper::ZooKeeper;
use common::{Zoo, instance, until};
use futures_util::{StreamExt, stream};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

const SERVICES: usize = 1000;

/// The time that this process has had of all processors.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name before may have blanks in it; then come the state and ten numbers, and the ticks for programs and
    // system.
    let numbers = stat.rsplit_once(") ").unwrap().1.split(' ').skip(11).take(2);
    numbers.map(|ticks| Duration::from_millis(10) * ticks.parse().unwrap()).sum()
}

/// Runs for so long, and says what it has cost.
async fn costs(time: Duration) -> Duration {
    let before = cpu();
    sleep(time).await; // it is the cost of this time that is asked for
    cpu() - before
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn a_thousand_services_cost_little_and_an_outage_of_them_too() {
    let zoo = Zoo::start(1).await;
    let proxy = Proxy::to(zoo.servers.address()).await;
    let services: Vec<ServiceName> = (0..SERVICES).map(|n| format!("many/s{n}").parse().unwrap()).collect();
    let servers = zoo.zookeeper();
    let leases = stream::iter(&services).map(async |service| servers.register(service, &instance("a")).await.unwrap());
    let _leases: Vec<_> = leases.buffer_unordered(64).collect().await;

    let client = ZooKeeper::builder([proxy.address().to_string()]).build().unwrap();
    let (stale, complete) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    for service in &services {
        let mut watcher = watch(Arc::new(client.clone()), service, WatchSettings::default());
        let (stale, complete) = (Arc::clone(&stale), Arc::clone(&complete));
        tokio::spawn(async move {
            let mut was = (false, false);
            loop {
                let view = watcher.changed().await;
                let is = (view.stale.is_some(), view.instances.as_ref().is_some_and(|set| set.len() == 1));
                for (counter, was, is) in [(&stale, was.0, is.0), (&complete, was.1, is.1)] {
                    counter.fetch_add(usize::from(is), Ordering::Relaxed);
                    counter.fetch_sub(usize::from(was), Ordering::Relaxed);
                }
                was = is;
            }
        });
    }
    let are = async |counter: &AtomicUsize, count| (counter.load(Ordering::Relaxed) == count).then_some(());
    until("all are seen", async || are(&complete, SERVICES).await).await;

    let idle = costs(Duration::from_secs(20)).await;
    proxy.set(Mode::Refuse).await;
    let outage = costs(Duration::from_secs(5)).await;
    assert_eq!((stale.load(Ordering::Relaxed), complete.load(Ordering::Relaxed)), (SERVICES, SERVICES));
    let before = cpu();
    proxy.set(Mode::Pass).await;
    let healed = Instant::now();
    until("all are up to date", async || are(&stale, 0).await).await;
    println!(
        "{SERVICES} services: {idle:?} in 20 s, {outage:?} in an outage of 5 s, right {:?} after it, for {:?}",
        healed.elapsed(),
        cpu() - before
    );
    assert_eq!(complete.load(Ordering::Relaxed), SERVICES, "nothing was missing");
    // Generous, for programs that are not optimised, on machines that are busy with other tests.
    assert!(idle < Duration::from_secs(4) && outage < Duration::from_secs(2), "{idle:?}, {outage:?}");
}

/// A ZooKeeper that cannot be reached is asked as often as by one service, however many there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_services_together_try_as_often_as_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = ZooKeeper::builder([listener.local_addr().unwrap().to_string()]).build().unwrap();
    let mut following = JoinSet::new();
    for n in 0..200 {
        let service = format!("many/s{n}").parse().unwrap();
        let mut watcher = watch(Arc::new(client.clone()), &service, WatchSettings::default());
        following.spawn(async move {
            loop {
                watcher.changed().await;
            }
        });
    }
    let mut tried = 0;
    let hung_up_on_everybody = timeout(Duration::from_secs(5), async {
        loop {
            drop(listener.accept().await.unwrap());
            tried += 1;
        }
    });
    hung_up_on_everybody.await.unwrap_err();
    println!("{tried} attempts for {} services", following.len());
    // The waits double from 100 ms up to 2 s, each half as long at the least.
    assert!((3..=11).contains(&tried), "{tried} attempts");
}
