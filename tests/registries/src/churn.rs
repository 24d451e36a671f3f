//! Everything restarts, the registry too.

use std::collections::BTreeMap;
use std::time::Duration;

use callboard::{Channel, Dialer};
use callboard_servers::Cluster;
use tokio::time::{Instant, sleep, timeout};

use crate::{Examples, Server};

const SERVERS: usize = 20;
/// How soon after the last fault the client's view has to be right.
const RIGHT_WITHIN: Duration = Duration::from_secs(5);

/// For a while, 20 servers are restarted at random, by SIGTERM or SIGKILL, while the registry is killed and paused. At
/// the end of it, within 5 s after the last fault, the client's view is right: every server that lives is in it, where it
/// lives, and nobody else.
pub async fn churn(examples: Examples, url: &str, registry: &Cluster, time: Duration) {
    let channel = Dialer::new().dial(url).await.unwrap();
    let mut servers: Vec<_> = (0..SERVERS).map(|number| start(examples, url, number)).collect();
    is_right(&channel, &servers, Duration::from_secs(60)).await;

    let end = Instant::now() + time;
    let restarts = async {
        let mut restarts = 0;
        while Instant::now() < end {
            let number = fastrand::usize(..SERVERS);
            restart(examples, url, number, &mut servers).await;
            restarts += 1;
            sleep(Duration::from_millis(fastrand::u64(100..400))).await;
        }
        restarts
    };
    let (restarts, faults) = tokio::join!(restarts, break_registry(registry, end));
    let last = Instant::now();
    is_right(&channel, &servers, RIGHT_WITHIN).await;
    println!(
        "{restarts} servers restarted, the registry killed or paused {faults} times in {time:?}: the view was right {:?} after the last fault",
        last.elapsed()
    );
}

fn start(examples: Examples, url: &str, number: usize) -> Server {
    Server::start_with(examples, url, &["--id", &id(number)])
}

fn id(number: usize) -> String {
    format!("s{number:02}")
}

/// One ends, and the next one begins under its id without waiting for that.
async fn restart(examples: Examples, url: &str, number: usize, servers: &mut [Server]) {
    let next = start(examples, url, number);
    let old = std::mem::replace(&mut servers[number], next);
    if fastrand::bool() {
        old.kill().await;
    } else {
        // It may take its time while the registry is away; nobody waits for it.
        tokio::spawn(old.terminate());
    }
}

/// Kills or pauses the registry again and again, for up to some seconds each. The last time it comes back is not before
/// the end.
async fn break_registry(registry: &Cluster, end: Instant) -> usize {
    let mut faults = 0;
    while Instant::now() < end {
        sleep(Duration::from_millis(fastrand::u64(500..4_000))).await;
        let away = Duration::from_millis(fastrand::u64(200..5_000));
        if faults % 2 == 0 {
            registry.kill().await;
            sleep(away).await;
            registry.restart().await;
        } else {
            registry.pause();
            sleep(away).await;
            registry.resume();
        }
        faults += 1;
    }
    faults
}

/// Waits until the client sees each server where it serves, and nobody else.
async fn is_right(channel: &Channel, servers: &[Server], within: Duration) {
    let seen = || -> BTreeMap<String, String> {
        let endpoints = channel.endpoints();
        let instances = endpoints.iter().map(|status| status.endpoint.instance());
        instances.map(|instance| (instance.id().to_owned(), instance.address().to_string())).collect()
    };
    let wanted = || -> BTreeMap<String, String> {
        let pair = |(number, server): (usize, &Server)| (id(number), server.address_so_far().unwrap_or_default());
        servers.iter().enumerate().map(pair).collect()
    };
    let looked = async {
        while seen() != wanted() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(within, looked).await.is_err() {
        let (seen, wanted) = (seen(), wanted());
        let wrong: Vec<_> = wanted.iter().filter(|(id, at)| seen.get(*id) != Some(at)).collect();
        panic!("not right within {within:?}: wanted {wrong:?}; seen {seen:?}");
    }
}
