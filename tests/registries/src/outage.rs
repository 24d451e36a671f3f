//! A registry that is away for a minute, and comes back with nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use callboard::{Channel, Dialer};
use callboard_servers::Cluster;
use tokio::time::{Instant, sleep, timeout};

use crate::Examples;
use crate::load::Load;
use crate::rolling::Fleet;

const AWAY: Duration = Duration::from_secs(60);
/// How soon after the registry's return every server has to be on the board again.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// Five servers under the load of 64 callers. The registry is killed, is away for a minute, and starts anew without its
/// data: no call fails, and within 5 s every server is on the board again.
pub async fn outage(examples: Examples, url: &str, registry: &Cluster) {
    let fleet = Fleet::start(examples, url).await;
    let servers = ids(&fleet.channel);
    let load = Load::start(&fleet.channel);
    load.goes_on().await;

    registry.kill().await;
    sleep(AWAY).await; // the time that is asked for, and not a wait for something
    assert!(fleet.channel.stale().is_some(), "the channel knows that it cannot hear the registry");
    registry.wipe().await;
    let returned = Instant::now();
    // Somebody new knows only what the board says now.
    let newcomer = Dialer::new().dial(url).await.unwrap();
    let all = async {
        while ids(&newcomer) != servers {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let back = timeout(BACK_WITHIN, all).await;
    assert!(back.is_ok(), "not all of {servers:?} are back within {BACK_WITHIN:?}: {:?}", ids(&newcomer));
    let back = returned.elapsed();

    load.goes_on().await;
    let total = load.finish().await;
    println!("registry away for {AWAY:?} and wiped: {total}; every server was back on the board after {back:?}");
    assert_eq!(total.failures(), 0, "{total:?}");
    fleet.end().await;
}

fn ids(channel: &Channel) -> BTreeSet<String> {
    channel.endpoints().iter().map(|status| status.endpoint.instance().id().to_owned()).collect()
}
