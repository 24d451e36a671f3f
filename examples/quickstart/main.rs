//! Servers join, leave, die and change while one client calls them without a pause. A live table shows which servers
//! get calls, and a report at the end shows what was measured. The exit status is 0 only if no call failed that need
//! not have failed and every server had its share.
//!
//! Everything is real except the registry, which is in memory: tonic servers on loopback TCP, and a generated tonic
//! client. Run it with `cargo run --release --example quickstart`.

mod aftermath;
mod callers;
mod report;
mod table;

use std::collections::BTreeMap;
use std::io::stdout;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use callboard::backend::Memory;
use callboard::balancer::Weighted;
use callboard::{
    Channel, ConnectivityState, Endpoint, Instance, Registration, RegistrationSettings, ServiceName, register,
};
use callboard_echo::EchoServer;
use tokio::time::{Instant, sleep, timeout};

use aftermath::Aftermath;
use callers::Ledger;
use report::{Report, Scene};
use table::Table;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long the shares of one set of servers are measured.
const SCENE: Duration = Duration::from_secs(2);
/// How long the entry of a dead server stays in the registry, like a registry's time to live.
const TIME_TO_LIVE: Duration = Duration::from_secs(1);
/// The bound of each wait.
const PATIENCE: Duration = Duration::from_secs(4);
/// The bound of the whole run.
const LONGEST: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let report = timeout(LONGEST, play()).await.map_err(|_| format!("not over in {LONGEST:?}"))??;
    let fine = report.print(&mut stdout())?;
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn play() -> Result<Report> {
    let board = Memory::default();
    let service: ServiceName = "quickstart/echo".parse()?;

    // The client: one channel for the whole run. It needs neither a server nor the registry to be up.
    let channel = Channel::builder(service.clone())
        .resolver(board.clone())
        .balancer(Weighted::new())
        .timeout(Duration::from_secs(3))
        .build()?;
    let mut play = Play::new(board, service, channel);

    play.table.say("anna (weight 3), boris and clara (weight 1) are registered");
    for (id, weight) in [("anna", 3), ("boris", 1), ("clara", 1)] {
        play.sign_in(id, weight).await?;
    }
    play.followed(Instant::now()).await?;
    let callers = callers::start(&play.channel, &play.ledger);
    let table = Table::start(&play.table);
    play.scene("at first").await?;

    let joined = play.join("dora").await?;
    play.scene("dora joined").await?;

    let left = play.leave("boris").await?;
    play.scene("boris left").await?;

    let cut = play.cut("clara").await?;
    play.scene("clara cut off").await?;

    play.change_weight("anna", 1).await?;
    play.scene("anna weight 1").await?;

    play.ledger.finish();
    callers.join_all().await;
    table.abort();
    Ok(play.report(joined, left, cut))
}

/// A server and its entry in the registry.
struct Server {
    echo: EchoServer,
    /// Dropping this deregisters the server.
    registration: Registration,
    weight: u32,
}

/// A server that was cut off with calls in flight.
struct Cut {
    id: &'static str,
    address: String,
    at: Instant,
    in_flight: u64,
    aftermath: Aftermath,
}

struct Play {
    board: Memory,
    service: ServiceName,
    channel: Channel,
    ledger: Arc<Ledger>,
    table: Arc<Table>,
    /// The running servers, by id.
    servers: BTreeMap<&'static str, Server>,
    /// How many connections each server has accepted in all, noted when it ends.
    accepted: BTreeMap<&'static str, u64>,
    /// Each change, and how long the client took to follow it.
    followed: Vec<Duration>,
    scenes: Vec<Scene>,
}

impl Play {
    fn new(board: Memory, service: ServiceName, channel: Channel) -> Self {
        let ledger = Arc::new(Ledger::default());
        let table = Arc::new(Table::new(channel.clone(), Arc::clone(&ledger)));
        let (servers, accepted, followed, scenes) = Default::default();
        Self { board, service, channel, ledger, table, servers, accepted, followed, scenes }
    }

    /// Starts a server, and registers it once it listens.
    async fn sign_in(&mut self, id: &'static str, weight: u32) -> Result<()> {
        let echo = EchoServer::start(id).await?;
        let instance = Instance::new(id, echo.address().try_into()?)?.with_weight(weight);
        let registry = Arc::new(self.board.clone());
        let registration = register(registry, &self.service, instance, RegistrationSettings::default());
        self.servers.insert(id, Server { echo, registration, weight });
        Ok(())
    }

    /// Adds a server. Returns the time from its registration to its first call, as the server saw it.
    async fn join(&mut self, id: &'static str) -> Result<(&'static str, Duration)> {
        self.table.say(&format!("{id} (weight 1) is registered"));
        let since = Instant::now();
        self.sign_in(id, 1).await?;
        let called = timeout(PATIENCE, self.servers[id].echo.until(|server| server.calls() > 0)).await;
        let first_call = since.elapsed();
        called.map_err(|_| format!("{id} got no call within {PATIENCE:?}"))?;
        self.followed(since).await?;
        Ok((id, first_call))
    }

    /// Stops a server: it is deregistered first, and stops only when clients have seen that.
    async fn leave(&mut self, id: &'static str) -> Result<(&'static str, Aftermath)> {
        self.table.say(&format!("{id} is deregistered, and then stops"));
        let Server { echo, registration, .. } = self.take(id)?;
        let since = Instant::now();
        let aftermath = Aftermath::watch(self.endpoint(id)?, since);
        registration.deregister().await?;
        // A real server cannot see its clients, so it would wait for a fixed time instead.
        self.followed(since).await?;
        timeout(PATIENCE, echo.stop()).await.map_err(|_| format!("{id} did not stop within {PATIENCE:?}"))?;
        Ok((id, aftermath))
    }

    /// Kills a server: its sockets are reset with calls in flight. Its entry stays in the registry for a while.
    async fn cut(&mut self, id: &'static str) -> Result<Cut> {
        self.table.say(&format!("{id} is cut off without warning; its entry stays for {TIME_TO_LIVE:?}"));
        let Server { echo, registration, .. } = self.take(id)?;
        let (endpoint, at) = (self.endpoint(id)?, Instant::now());
        let (address, in_flight) = (echo.address().to_string(), endpoint.in_flight());
        let aftermath = Aftermath::watch(endpoint, at);
        echo.kill().await;
        self.followed(at).await?;
        tokio::spawn(async move {
            sleep(TIME_TO_LIVE).await;
            drop(registration);
        });
        Ok(Cut { id, address, at, in_flight, aftermath })
    }

    /// Changes the weight of a server in place.
    async fn change_weight(&mut self, id: &'static str, weight: u32) -> Result<()> {
        let server = self.servers.get_mut(id).ok_or("no server has that name")?;
        self.table.say(&format!("{id} changes its weight from {} to {weight}", server.weight));
        server.weight = weight;
        let since = Instant::now();
        server.registration.update(|instance| instance.set_weight(weight));
        self.followed(since).await
    }

    /// Lets the callers call for a while, and counts these calls apart from those during changes.
    async fn scene(&mut self, title: &'static str) -> Result<()> {
        let weights = self.servers.iter().map(|(id, server)| (*id, server.weight)).collect();
        self.scenes.push(Scene { title, weights });
        self.ledger.begin_scene(self.scenes.len());
        sleep(SCENE).await;
        self.ledger.end_scene();
        Ok(())
    }

    /// Waits until the ready endpoints of the channel are the running servers, with their weights.
    async fn followed(&mut self, since: Instant) -> Result<()> {
        let wanted: BTreeMap<String, u32> = self.servers.iter().map(|(id, s)| ((*id).to_owned(), s.weight)).collect();
        while self.ready() != wanted {
            if since.elapsed() > PATIENCE {
                return Err(format!("after {PATIENCE:?} the client has {:?}, not {wanted:?}", self.ready()).into());
            }
            sleep(Duration::from_millis(1)).await;
        }
        self.followed.push(since.elapsed());
        Ok(())
    }

    fn ready(&self) -> BTreeMap<String, u32> {
        let endpoints = self.channel.endpoints().into_iter().map(|status| status.endpoint);
        let ready = endpoints.filter(|endpoint| endpoint.state() == ConnectivityState::Ready);
        ready.map(|endpoint| (endpoint.instance().id().to_owned(), endpoint.weight())).collect()
    }

    fn endpoint(&self, id: &str) -> Result<Endpoint> {
        let mut endpoints = self.channel.endpoints().into_iter().map(|status| status.endpoint);
        Ok(endpoints.find(|endpoint| endpoint.instance().id() == id).ok_or("the client does not know it")?)
    }

    /// Removes a server from the running ones.
    fn take(&mut self, id: &'static str) -> Result<Server> {
        let server = self.servers.remove(id).ok_or("no server has that name")?;
        self.accepted.insert(id, server.echo.accepted());
        Ok(server)
    }

    fn report(mut self, joined: (&'static str, Duration), left: (&'static str, Aftermath), cut: Cut) -> Report {
        let serving = self.servers.iter().map(|(id, server)| (*id, server.echo.accepted()));
        self.accepted.extend(serving);
        Report {
            took: self.table.elapsed(),
            tally: self.ledger.tally(),
            most_in_flight: self.table.most_in_flight(),
            accepted: self.accepted,
            followed: self.followed,
            scenes: self.scenes,
            joined,
            left,
            cut,
        }
    }
}
