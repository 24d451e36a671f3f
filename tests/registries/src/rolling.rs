//! Servers that are replaced one after the other, as a rolling update does it.

use callboard::{Channel, ConnectivityState, Dialer, Incarnation};
use tokio::task::JoinSet;
use tonic::Code;

use crate::load::{CALLERS, Load, until};
use crate::{Examples, Server};

const SERVERS: usize = 5;
const ROUNDS: usize = 3;

/// Five servers under the load of 64 callers. Three times, each in turn is asked to end and one begins at its address: no
/// call fails. Then each in turn is killed and one begins at its address: only calls in flight there fail, and none that
/// may be repeated.
pub async fn rolling_restart(examples: Examples, url: &str) {
    let mut fleet = Fleet::start(examples, url).await;
    let load = Load::start(&fleet.channel);
    for _ in 0..ROUNDS {
        for number in 0..SERVERS {
            fleet.replace(number).await;
            load.goes_on().await;
        }
    }
    let asked = load.tally();
    println!("{} servers ended by SIGTERM and begun anew: {asked}", ROUNDS * SERVERS);
    assert_eq!(asked.failures(), 0, "{asked:?}");

    for number in 0..SERVERS {
        let before = load.tally().failures();
        let address = fleet.kill_and_replace(number).await;
        load.goes_on().await;
        for status in &load.tally().failed[before..] {
            // It says so, and that it was in flight there.
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            assert!(status.message().contains(&address), "{address} is not in {status}");
        }
        // Each caller has one call in flight, and only these.
        assert!(load.tally().failures() - before <= CALLERS, "{:?}", load.tally());
    }
    let total = load.finish().await;
    println!(
        "and {SERVERS} killed and begun anew: {total} in all; those that failed were in flight on a killed server"
    );
    assert_eq!(total.repeatable_failed, 0, "{total:?}");
    fleet.end().await;
}

/// Servers, each as a process, and a channel to them.
pub(crate) struct Fleet<'u> {
    examples: Examples,
    url: &'u str,
    servers: Vec<(String, Server)>,
    pub(crate) channel: Channel,
}

impl<'u> Fleet<'u> {
    pub(crate) async fn start(examples: Examples, url: &'u str) -> Self {
        let started: Vec<_> = (0..SERVERS).map(|_| start(examples, url, "127.0.0.1:0")).collect();
        let mut servers = Vec::new();
        for server in started {
            servers.push((server.address().await, server));
        }
        let channel = Dialer::new().dial(url).await.unwrap();
        let fleet = Self { examples, url, servers, channel };
        for (address, _) in &fleet.servers {
            fleet.until_ready_after(address, Incarnation::from_micros(0)).await;
        }
        fleet
    }

    /// One ends as it is asked to, and after that the next begins at its address.
    async fn replace(&mut self, number: usize) {
        let (address, server) = self.servers.remove(number);
        let before = self.incarnation(&address).expect("it is on the board");
        assert!(server.terminate().await.success(), "it leaves, drains and ends well");
        self.begin(number, address, before).await;
    }

    async fn kill_and_replace(&mut self, number: usize) -> String {
        let (address, server) = self.servers.remove(number);
        let before = self.incarnation(&address).expect("it is on the board");
        server.kill().await;
        self.begin(number, address.clone(), before).await;
        address
    }

    async fn begin(&mut self, number: usize, address: String, before: Incarnation) {
        let server = start(self.examples, self.url, &address);
        assert_eq!(server.address().await, address);
        self.until_ready_after(&address, before).await;
        self.servers.insert(number, (address, server));
    }

    /// Of the server at this address, as the client sees it.
    fn incarnation(&self, address: &str) -> Option<Incarnation> {
        let endpoints = self.channel.endpoints();
        let at = endpoints.iter().map(|status| &status.endpoint).find(|endpoint| endpoint.instance().id() == address);
        at.filter(|endpoint| endpoint.state() == ConnectivityState::Ready)
            .map(|endpoint| endpoint.instance().incarnation())
    }

    async fn until_ready_after(&self, address: &str, before: Incarnation) {
        until("the client has a connection to the new server", || self.incarnation(address) > Some(before)).await;
    }

    pub(crate) async fn end(self) {
        let ends: JoinSet<_> = self.servers.into_iter().map(|(_, server)| server.terminate()).collect();
        assert!(ends.join_all().await.iter().all(std::process::ExitStatus::success));
    }
}

fn start(examples: Examples, url: &str, address: &str) -> Server {
    Server::start_with(examples, url, &["--listen", address, "--delay", "1s"])
}
