//! Servers that are replaced one after the other, as a rolling update does it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use callboard::{Channel, ConnectivityState, Dialer, Idempotent, Incarnation};
use callboard_echo::pb::EchoRequest;
use callboard_echo::pb::echo_client::EchoClient;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::{Code, Request, Status};

use crate::{Examples, Server};

const SERVERS: usize = 5;
const CALLERS: usize = 64;
const ROUNDS: usize = 3;
/// Longer than anything here takes, on a busy machine; only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

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
struct Fleet<'u> {
    examples: Examples,
    url: &'u str,
    servers: Vec<(String, Server)>,
    channel: Channel,
}

impl<'u> Fleet<'u> {
    async fn start(examples: Examples, url: &'u str) -> Self {
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
        let at = endpoints.iter().map(|status| &status.endpoint).find(|endpoint| endpoint.instance().id == address);
        at.filter(|endpoint| endpoint.state() == ConnectivityState::Ready)
            .map(|endpoint| endpoint.instance().incarnation)
    }

    async fn until_ready_after(&self, address: &str, before: Incarnation) {
        until("the client has a connection to the new server", || self.incarnation(address) > Some(before)).await;
    }

    async fn end(self) {
        let ends: JoinSet<_> = self.servers.into_iter().map(|(_, server)| server.terminate()).collect();
        assert!(ends.join_all().await.iter().all(std::process::ExitStatus::success));
    }
}

fn start(examples: Examples, url: &str, address: &str) -> Server {
    Server::start_with(examples, url, &["--listen", address, "--delay", "1s"])
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let looked = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, looked).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain until {what}"));
}

/// What the callers have seen so far.
#[derive(Clone, Debug, Default)]
struct Tally {
    unary: u64,
    streams: u64,
    repeatable: u64,
    repeatable_failed: u64,
    failed: Vec<Status>,
}

impl Tally {
    fn failures(&self) -> usize {
        self.failed.len()
    }

    fn calls(&self) -> u64 {
        self.unary + self.streams + self.repeatable
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { unary, streams, repeatable, repeatable_failed, failed } = self;
        let failed = failed.len();
        write!(f, "{unary} unary calls, {streams} streams, {repeatable} calls marked Idempotent, ")?;
        write!(f, "{failed} failed, {repeatable_failed} of them so marked")
    }
}

/// Callers that call without a pause.
struct Load {
    tally: Arc<Mutex<Tally>>,
    over: Arc<AtomicBool>,
    callers: JoinSet<()>,
}

impl Load {
    fn start(channel: &Channel) -> Self {
        let (tally, over) = (Arc::<Mutex<Tally>>::default(), Arc::new(AtomicBool::new(false)));
        let caller = |number| call(channel.clone(), number % 4, Arc::clone(&tally), Arc::clone(&over));
        Self { callers: (0..CALLERS).map(caller).collect(), tally, over }
    }

    fn tally(&self) -> Tally {
        self.tally.lock().unwrap().clone()
    }

    /// Waits until each caller may have made some more calls.
    async fn goes_on(&self) {
        let wanted = self.tally().calls() + 4 * CALLERS as u64;
        until("more calls are made", || self.tally.lock().unwrap().calls() >= wanted).await;
    }

    async fn finish(self) -> Tally {
        self.over.store(true, Ordering::Relaxed);
        self.callers.join_all().await;
        let tally = self.tally.lock().unwrap();
        tally.clone()
    }
}

async fn call(channel: Channel, kind: usize, tally: Arc<Mutex<Tally>>, over: Arc<AtomicBool>) {
    let mut client = EchoClient::new(channel);
    while !over.load(Ordering::Relaxed) {
        let message = EchoRequest { payload: b"echo".to_vec(), delay_ms: 2, repeat: 3 };
        let mut request = Request::new(message);
        request.set_timeout(Duration::from_secs(30));
        if kind == 0 {
            request.extensions_mut().insert(Idempotent);
        }
        let outcome = match kind {
            1 | 2 => stream(&mut client, request).await,
            _ => client.unary(request).await.map(drop),
        };
        let mut tally = tally.lock().unwrap();
        match kind {
            0 => tally.repeatable += 1,
            1 | 2 => tally.streams += 1,
            _ => tally.unary += 1,
        }
        if let Err(status) = outcome {
            tally.repeatable_failed += u64::from(kind == 0);
            tally.failed.push(status);
        }
    }
}

/// A call that is answered by three messages.
async fn stream(client: &mut EchoClient<Channel>, request: Request<EchoRequest>) -> Result<(), Status> {
    let mut answers = client.server_streaming(request).await?.into_inner();
    let mut count = 0;
    while answers.message().await?.is_some() {
        count += 1;
    }
    assert_eq!(count, 3, "a stream that ends well is whole");
    Ok(())
}
