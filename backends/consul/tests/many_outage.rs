//! What an outage costs a client with many watches. Alone in its file, because it counts the time of the whole process.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they share")]

mod agents;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use agents::Agents;
use callboard_core::{WatchSettings, Watcher, watch};
use callboard_servers::Cluster;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};

const COUNT: usize = 1_000;

/// What this process has used of a processor so far, as Linux counts it, in hundredths of a second.
fn used() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// What this process holds in memory, in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn until(watcher: &mut Watcher, stale: bool) {
    while watcher.resolution().instances.is_none() || watcher.resolution().stale.is_some() != stale {
        watcher.changed().await;
    }
}

async fn all(watchers: &mut [Watcher], stale: bool, within: Duration) {
    let all = join_all(watchers.iter_mut().map(|watcher| until(watcher, stale)));
    timeout(within, all).await.expect("each has heard of it in time");
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn an_outage_costs_a_thousand_watches_little_and_its_end_is_noticed_by_all() {
    let agents = Agents::on(Cluster::consul().start().await);
    let consul = Arc::new(agents.consul());
    let before = resident();
    let mut watchers: Vec<_> = (0..COUNT)
        .map(|number| watch(consul.clone(), &format!("many/s{number}").parse().unwrap(), WatchSettings::default()))
        .collect();
    let begun = Instant::now();
    all(&mut watchers, false, Duration::from_secs(60)).await;
    println!("{COUNT} watches: all have a first set after {:?}", begun.elapsed());
    println!("{COUNT} watches: {} KiB each", (resident() - before) / COUNT as u64);
    let idle = used();
    tokio::select! {
        _ = join_all(watchers.iter_mut().map(async |watcher| loop { watcher.changed().await; })) => {}
        () = sleep(Duration::from_secs(5)) => {}
    }
    println!("{COUNT} watches: {:?} of CPU in 5 s without an outage", used() - idle);
    agents.cluster.kill().await;
    let (begun, cost) = (Instant::now(), used());
    all(&mut watchers, true, Duration::from_secs(10)).await;
    println!("{COUNT} watches: all know of the outage after {:?} and {:?} of CPU", begun.elapsed(), used() - cost);
    tokio::select! {
        _ = join_all(watchers.iter_mut().map(async |watcher| loop { watcher.changed().await; })) => {}
        () = sleep(Duration::from_secs(5).saturating_sub(begun.elapsed())) => {}
    }
    let cost = used() - cost;
    println!("{COUNT} watches: {cost:?} of CPU in an outage of 5 s");
    agents.cluster.start().await;
    let back = Instant::now();
    all(&mut watchers, false, Duration::from_secs(30)).await;
    println!("{COUNT} watches: all hear the agent again after {:?}", back.elapsed());
    // Five times what an optimised build may take.
    assert!(cost < Duration::from_secs(1), "{cost:?} of CPU in an outage of 5 s");
}
