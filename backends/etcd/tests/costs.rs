//! What a thousand services, and a thousand registrations, cost a process that has one client for all.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they call")]
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use callboard_conformance::{Seen, Watcher};
use callboard_core::{Registration, RegistrationSettings, RegistrationState, encode, register};
use callboard_servers::Cluster;
use common::{SOON, Servers, figure, instance, key, service};
use etcd_client::{Txn, TxnOp};
use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

const MANY: u16 = 1_000;
const OUTAGE: Duration = Duration::from_secs(5);

/// Longer than an outage, so that no lease ends.
const LONG: Duration = Duration::from_secs(60);

/// What each may cost, in KB.
const ROOM: f64 = 50.0;

/// How much of the processors' time an outage may cost. What is built for tests is slower.
const WORK: Duration = Duration::from_millis(if cfg!(debug_assertions) { 500 } else { 200 });

/// What is measured is the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::const_new(());

/// What this process has had until now.
struct Cost {
    /// In KB.
    memory: f64,
    worked: Duration,
    tasks: usize,
    since: Instant,
}

impl Cost {
    fn now() -> Self {
        // What follows the name of the program, which may have anything in it.
        let figures = fs::read_to_string("/proc/self/stat").unwrap();
        let figures: Vec<_> = figures.rsplit(')').next().unwrap().split_ascii_whitespace().collect();
        let [user, system, pages] = [11, 12, 21].map(|at| figures[at].parse::<f64>().unwrap());
        Self {
            memory: pages * 4.096,
            worked: Duration::from_secs_f64((user + system) / 100.0),
            tasks: Handle::current().metrics().num_alive_tasks(),
            since: Instant::now(),
        }
    }

    /// What each of them has cost since, in KB, and all of them in time.
    fn report(&self, what: &str) -> (f64, Duration) {
        let now = Self::now();
        let (each, worked) = ((now.memory - self.memory) / f64::from(MANY), now.worked.saturating_sub(self.worked));
        let (tasks, time) = (now.tasks as i64 - self.tasks as i64, self.since.elapsed());
        println!("{what}: {each:.1} KB each, {tasks} tasks more, {worked:?} of CPU in {time:.1?}");
        (each, worked)
    }
}

/// Waits until etcd has so many watches.
async fn watched(servers: &Servers, watches: u16) {
    while figure(servers.cluster.address(), "etcd_debugging_mvcc_watcher_total").await < f64::from(watches) {
        sleep(Duration::from_millis(50)).await;
    }
}

fn name(n: u16) -> callboard_core::ServiceName {
    service(&format!("project/{n}"))
}

/// etcd is away for a while, and has answered again at the end of this. What that costs is bounded.
async fn outage(servers: &Servers) {
    servers.cluster.kill().await;
    let begun = Cost::now();
    sleep(OUTAGE).await;
    let (_, worked) = begun.report("an outage");
    assert!(worked < WORK, "an outage of {OUTAGE:?} costs {worked:?} of CPU");
    servers.cluster.start().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn a_thousand_services_on_one_client() {
    let _alone = ALONE.lock().await;
    let servers = Servers::one().await;
    let mut client = servers.client().await;
    let puts: Vec<_> = (0..MANY).map(|n| TxnOp::put(key(&name(n), "a"), encode(&instance("a", 1)), None)).collect();
    for some in puts.chunks(100) {
        client.txn(Txn::new().and_then(some)).await.unwrap();
    }
    drop(client);
    let etcd = servers.etcd();
    let begun = Cost::now();
    let watchers: Vec<_> = (0..MANY).map(|n| Watcher::new(Arc::new(etcd.clone()), &name(n))).collect();
    let all_see = async || {
        let fresh = |seen: &Seen| seen.stale.is_none() && seen.ids() == ["a"];
        join_all(watchers.iter().map(|watcher| watcher.until(SOON, "its instance", fresh))).await;
    };
    all_see().await;
    watched(&servers, MANY).await;
    let (each, _) = begun.report("a service that is watched");
    assert!(each < ROOM, "{each} KB each");
    for _ in 0..2 {
        outage(&servers).await;
        let begun = Cost::now();
        all_see().await;
        watched(&servers, MANY).await;
        begun.report("all is received again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn a_thousand_registrations_on_one_client() {
    let _alone = ALONE.lock().await;
    let servers = Servers::of(Cluster::etcd(), LONG).await;
    let etcd = servers.etcd();
    let begun = Cost::now();
    let register =
        |n| register(Arc::new(etcd.clone()), &name(n), instance("a", n + 1), RegistrationSettings::default());
    let registrations: Vec<Registration> = (0..MANY).map(register).collect();
    for registration in &registrations {
        registration.wait_registered(SOON).await.unwrap();
    }
    watched(&servers, MANY).await;
    let (each, _) = begun.report("a registration");
    assert!(each < ROOM, "{each} KB each");
    outage(&servers).await;
    let begun = Cost::now();
    watched(&servers, MANY).await;
    begun.report("all entries are watched again");
    let held = |registration: &Registration| matches!(registration.state(), RegistrationState::Registered { .. });
    assert!(registrations.iter().all(held), "a lease was lost");
}
