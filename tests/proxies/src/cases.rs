//! What is tried behind each proxy.

use std::net::SocketAddr;
use std::time::Duration;

use callboard_servers::Setup;
use tokio::time::sleep;

use crate::client::Client;
use crate::load::{Load, Wish};
use crate::scene::{LONG, Scene};
use crate::table::row;
use crate::tally::Tally;

/// A proxy is away for less than a second, and gRPC's backoff is then not much more.
const IN_TIME: Duration = Duration::from_secs(10);

/// A function of [`Cluster`](callboard_servers::Cluster) that prepares a proxy.
type Prepare = fn(&[SocketAddr]) -> Setup;

/// Calls and streams go through one proxy and through three, and none fails.
pub async fn calls(name: &str, prepare: Prepare) {
    for proxies in [1, 3] {
        let scene = Scene::new(prepare, proxies, &[]).await;
        let tally = loaded_by(&scene, Wish::MIXED).await;
        row(scene.client, name, "calls and streams", proxies, &tally);
        scene.client.holds(|| none_failed(&tally));
    }
}

/// More callers than the proxy allows on a connection wait for their turns, and none fails.
pub async fn crowd(name: &str, prepare: Prepare, config: &[&str]) {
    let scene = Scene::new(prepare, 1, config).await;
    let tally = loaded_by(&scene, Wish { unary: 256, delay_ms: 5, ..Wish::MIXED }).await;
    row(scene.client, name, "256 callers", 1, &tally);
    scene.client.holds(|| none_failed(&tally));
}

/// The proxy ends connections, by this setting, all the time, and no call fails.
pub async fn limit(name: &str, prepare: Prepare, case: &str, config: &[&str]) {
    for proxies in [1, 3] {
        let scene = Scene::new(prepare, proxies, config).await;
        let tally = loaded_by(&scene, Wish::MIXED).await;
        row(scene.client, name, case, proxies, &tally);
        scene.client.holds(|| {
            none_failed(&tally);
            let made = tally.connections.unwrap();
            assert!(made > 2 * proxies as u64, "{name} has ended no connection: {made} were made");
        });
    }
}

/// The proxy ends connections that are idle for 100 ms, by this setting, and callers come just then. No call fails.
pub async fn idle(name: &str, prepare: Prepare, config: &[&str]) {
    let scene = Scene::new(prepare, 1, config).await;
    let tally = rarely_called(&scene, false).await;
    row(scene.client, name, "idle connections end", 1, &tally);
    scene.client.holds(|| none_failed(&tally));
}

/// The same with a proxy that closes them without a GOAWAY. Nobody can tell then what has become of a call that comes in
/// that moment: only those that may be sent twice do not fail.
pub async fn idle_unannounced(name: &str, prepare: Prepare, config: &[&str]) {
    let scene = Scene::new(prepare, 1, config).await;
    let tally = rarely_called(&scene, false).await;
    row(scene.client, name, "idle connections end", 1, &tally);
    scene.client.holds(|| assert_eq!(tally.odd, 0, "all are UNAVAILABLE: {:#?}", tally.failures));
    let tally = rarely_called(&scene, true).await;
    row(scene.client, name, "the same, Idempotent", 1, &tally);
    scene.client.holds(|| none_failed(&tally));
}

/// Calls, each about 100 ms after the last.
async fn rarely_called(scene: &Scene, idempotent: bool) -> Tally {
    let pause = (Duration::from_millis(90), Duration::from_millis(110));
    let wish = Wish { unary: 1, streams: 0, whole: false, pause, idempotent, ..Wish::MIXED };
    let mut loads = Vec::new();
    for _ in 0..8 {
        // A channel each: one caller keeps the connection of another busy.
        loads.push(scene.load(wish).await);
    }
    sleep(2 * LONG).await;
    let mut tally = Tally { connections: Some(0), ..Tally::default() };
    for load in loads {
        tally = tally.and(load.finish().await);
    }
    tally
}

/// The proxy reads its configuration anew, several times, and no call fails.
pub async fn reload(name: &str, prepare: Prepare) {
    for proxies in [1, 3] {
        let scene = Scene::new(prepare, proxies, &[]).await;
        let load = scene.load(Wish::MIXED).await;
        for _ in 0..3 {
            sleep(LONG / 3).await;
            scene.proxies.nodes().iter().for_each(callboard_servers::Node::reload);
        }
        sleep(LONG / 2).await;
        load.goes_on().await;
        let tally = load.finish().await;
        row(scene.client, name, "3 reloads", proxies, &tally);
        scene.client.holds(|| {
            none_failed(&tally);
            let made = tally.connections.unwrap();
            // Not of all: Envoy takes its time, ten minutes by default.
            assert!(made > proxies as u64, "{name} has not let go of its connections: {made} were made");
        });
    }
}

/// The proxy is killed and comes back. Only what was in flight on it may fail, and with three proxies no call that may be
/// sent twice, unless its response has begun.
pub async fn death(name: &str, prepare: Prepare) {
    let wish = Wish { whole: false, ..Wish::MIXED };
    let waiting = Wish { wait_for_ready: true, ..wish };
    let repeated = Wish { streams: 0, idempotent: true, ..wish };
    for (case, proxies, wish) in
        [("2 deaths, calls wait", 1, waiting), ("2 deaths", 3, wish), ("2 deaths, Idempotent", 3, repeated)]
    {
        let scene = Scene::new(prepare, proxies, &[]).await;
        let load = scene.load(wish).await;
        for node in scene.proxies.nodes().iter().cycle().take(2) {
            sleep(LONG / 4).await;
            node.kill().await;
            let made = load.made_at(node.address());
            sleep(LONG / 4).await;
            node.start().await;
            load.returns_to(node.address(), made).await;
            load.goes_on().await;
        }
        let tally = load.finish().await;
        row(scene.client, name, case, proxies, &tally);
        scene.client.holds(|| {
            // Who is dialled again at once may be a worker of the same proxy that is about to die too.
            let lost = tally.connections.unwrap().saturating_sub(proxies as u64);
            let most = if wish.idempotent { tally.answered } else { lost * wish.in_flight() };
            assert!(tally.slowest < IN_TIME, "a call took {:?}", tally.slowest);
            assert!(tally.failed() <= most, "{} failed, but {most} were in flight", tally.failed());
            assert_eq!(tally.odd, 0, "all are UNAVAILABLE: {:#?}", tally.failures);
        });
    }
}

/// The servers behind the proxy are gone. What it says then is UNAVAILABLE to the caller, whatever it is.
pub async fn servers_gone(name: &str, prepare: Prepare) {
    let mut scene = Scene::new(prepare, 1, &[]).await;
    for server in scene.servers.drain(..) {
        server.kill().await;
    }
    let wish = Wish { unary: 1, streams: 0, whole: false, ..Wish::MIXED };
    let tally = loaded_by(&scene, wish).await;
    row(scene.client, name, "servers are gone", 1, &tally);
    scene.client.holds(|| {
        assert_eq!(tally.failed(), tally.calls(), "nobody can have answered");
        assert_eq!(tally.odd, 0, "all are UNAVAILABLE: {:#?}", tally.failures);
    });
}

/// The servers take longer for some calls than the proxy waits, by this setting. Says whether others fail with them.
pub async fn slow_servers(name: &str, prepare: Prepare, config: &[&str]) -> bool {
    let scene = Scene::new(prepare, 1, config).await;
    let wish = Wish { unary: 4, streams: 1, whole: true, delay_ms: 4000, ..Wish::MIXED };
    let tally = loaded_by(&scene, wish).await;
    row(scene.client, name, "servers are slow", 1, &tally);
    scene.client.holds(|| assert!(tally.failed() >= tally.unary, "{:#?}", tally.failures));
    tally.failed() > tally.unary
}

async fn loaded_by(scene: &Scene, wish: Wish) -> Tally {
    loaded(scene.client, &scene.proxies.addresses(), wish).await
}

/// Calls for a while.
pub(crate) async fn loaded(client: Client, to: &[SocketAddr], wish: Wish) -> Tally {
    let load = Load::start(client, to, wish).await;
    sleep(LONG).await;
    load.finish().await
}

pub(crate) fn none_failed(tally: &Tally) {
    assert_eq!(tally.failed(), 0, "{:#?}", tally.failures);
    assert!(tally.calls() > 100, "there were calls: {tally:?}");
}
