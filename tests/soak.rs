//! Everything at once, for a while: 64 callers, five servers and more, and each 200 ms one of them is killed, suspended,
//! reset, stopped, drained, re-weighted or removed, or one is added. Calls wait for a ready endpoint and have 10 s. Only
//! those fail that were in flight on a server at the moment when it was killed or its connections were reset.
//!
//! It takes 10 s, or as long as the environment variable `CALLBOARD_SOAK_SECONDS` says. What happens is drawn from a seed,
//! which is printed, and which `CALLBOARD_SOAK_SEED` sets; which calls meet it is up to the machine.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::env;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use callboard::balancer::Weighted;
use callboard::{Channel, ConnectivityState, Registration};
use callboard_echo::EchoServer;
use callboard_echo::pb::EchoRequest;
use callboard_echo::pb::echo_client::EchoClient;
use common::{PATIENCE, Stage, echo, in_time, quick, shares, tasks, until, until_ready, waiting};
use fastrand::Rng;
use tokio::task::JoinSet;
use tonic::{Code, Status};

const CALLERS: usize = 64;
const SERVERS: usize = 5;
const MOST_SERVERS: usize = 8;
const DEADLINE: Duration = Duration::from_secs(10);
const EACH: Duration = Duration::from_millis(200);
/// How soon after the end of its connection a call has ended, on a busy machine.
const PROMPTLY: Duration = Duration::from_secs(2);

/// What has happened, and when.
#[derive(Default)]
struct Journal {
    lines: Mutex<Vec<(Instant, String)>>,
    cuts: Mutex<Vec<Cut>>,
}

/// A server's connections were cut: from `begun` on they may be gone, and at `ended` they are.
struct Cut {
    address: SocketAddr,
    begun: Instant,
    ended: Instant,
}

impl Journal {
    fn note(&self, line: String) {
        self.lines.lock().unwrap().push((Instant::now(), line));
    }

    async fn cut(&self, address: SocketAddr, cutting: impl Future<Output = ()>) {
        let begun = Instant::now();
        in_time(cutting).await;
        self.cuts.lock().unwrap().push(Cut { address, begun, ended: Instant::now() });
    }

    /// Whether the call was in flight on a server that was cut, and says so.
    fn accounts_for(&self, failed: &Failed) -> bool {
        let met = |cut: &Cut| {
            cut.begun <= failed.ended
                && failed.begun <= cut.ended
                && failed.ended <= cut.ended + PROMPTLY
                && failed.status.message().contains(&format!("endpoint {}: ", cut.address))
        };
        failed.status.code() == Code::Unavailable && self.cuts.lock().unwrap().iter().any(met)
    }

    fn around(&self, failed: &Failed) -> String {
        let near = |at: Instant| {
            at + Duration::from_secs(2) >= failed.begun && at <= failed.ended + Duration::from_millis(500)
        };
        let since = |at: Instant| match at.checked_duration_since(failed.begun) {
            Some(after) => format!("+{after:?}"),
            None => format!("-{:?}", failed.begun - at),
        };
        let lines = self.lines.lock().unwrap();
        let near = lines.iter().filter(|(at, _)| near(*at)).map(|(at, line)| format!("{} {line}\n", since(*at)));
        near.collect()
    }
}

struct Failed {
    begun: Instant,
    ended: Instant,
    what: &'static str,
    status: Status,
}

/// What happens to a server.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Killed,
    Suspended,
    KilledWhileSuspended,
    Reset,
    /// Ends gracefully while it is on the board.
    Stopped,
    /// Leaves the board, and then ends gracefully.
    Drained,
    Reweighted,
    /// Is drained for good.
    Removed,
    /// Another one comes.
    Added,
}

const FATES: [Fate; 9] = [
    Fate::Killed,
    Fate::Suspended,
    Fate::KilledWhileSuspended,
    Fate::Reset,
    Fate::Stopped,
    Fate::Drained,
    Fate::Reweighted,
    Fate::Removed,
    Fate::Added,
];

struct Player {
    id: String,
    address: SocketAddr,
    weight: u32,
    server: EchoServer,
    registration: Registration,
}

impl Player {
    async fn enter(stage: &Stage, id: String) -> Self {
        let (server, registration) = stage.server(&id).await;
        Self { address: server.address(), weight: 1, id, server, registration }
    }

    /// Starts again where it was. If `signs_in`, it is another incarnation; if not, its entry has outlived it.
    async fn back(stage: &Stage, former: Former, signs_in: bool, rng: &mut Rng) -> Self {
        let Former { id, address, weight, registration } = former;
        // A connection on its way out may have been given the port for a moment.
        let server = in_time(async {
            loop {
                match EchoServer::start_at(&id, address).await {
                    Ok(server) => break server,
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        });
        let server = server.await;
        if let Some(registration) = registration.filter(|_| !signs_in) {
            return Self { id, address, weight, server, registration };
        }
        let weight = rng.u32(1..5);
        let registration = stage.sign_in(&id, address.try_into().unwrap(), weight).await;
        Self { id, address, weight, server, registration }
    }

    /// Lives through its fate. None if it ends there.
    async fn meet(self, fate: Fate, stage: &Stage, journal: &Journal, mut rng: Rng) -> Option<Self> {
        let (id, address, weight) = (self.id.clone(), self.address, self.weight);
        let mut some_time = || Duration::from_millis(rng.u64(50..1_000));
        let (first, then) = (some_time(), some_time());
        let Self { server, registration, .. } = self;
        let mut still = Some(registration);
        match fate {
            Fate::Reweighted => {
                let weight = rng.u32(0..6);
                still.as_ref()?.update(|instance| instance.set_weight(weight));
                return Some(Self { id, address, weight, server, registration: still? });
            }
            Fate::Suspended | Fate::Reset => {
                if matches!(fate, Fate::Reset) {
                    journal.cut(address, server.reset_connections()).await;
                } else {
                    server.pause();
                    tokio::time::sleep(first).await;
                    server.resume();
                }
                return Some(Self { id, address, weight, server, registration: still? });
            }
            Fate::KilledWhileSuspended => {
                server.pause();
                tokio::time::sleep(first).await;
                journal.cut(address, server.kill()).await;
            }
            Fate::Killed | Fate::Added => journal.cut(address, server.kill()).await,
            Fate::Stopped => in_time(server.stop()).await,
            Fate::Drained | Fate::Removed => {
                in_time(still.take()?.deregister()).await.unwrap();
                in_time(server.stop()).await;
                if matches!(fate, Fate::Removed) {
                    return None;
                }
            }
        }
        tokio::time::sleep(then).await;
        let signs_in = rng.bool();
        Some(Self::back(stage, Former { id, address, weight, registration: still }, signs_in, &mut rng).await)
    }
}

/// What is left of a server that has ended.
struct Former {
    id: String,
    address: SocketAddr,
    weight: u32,
    registration: Option<Registration>,
}

/// Gives a server its fate each 200 ms, for so long. Gives back those that live, once all fates are over.
async fn fates(
    stage: &Arc<Stage>,
    journal: &Arc<Journal>,
    mut idle: Vec<Player>,
    time: Duration,
    mut rng: Rng,
) -> Vec<Player> {
    let mut busy: JoinSet<Option<Player>> = JoinSet::new();
    let (end, mut entered) = (Instant::now() + time, idle.len());
    while Instant::now() < end {
        tokio::time::sleep(EACH).await;
        while let Some(over) = busy.try_join_next() {
            idle.extend(over.unwrap());
        }
        let count = idle.len() + busy.len();
        let (stage, journal) = (Arc::clone(stage), Arc::clone(journal));
        let fate = match rng.choice(FATES) {
            Some(Fate::Removed) if count <= SERVERS => Fate::Added,
            Some(Fate::Added) if count >= MOST_SERVERS => Fate::Removed,
            fate => fate.unwrap(),
        };
        if matches!(fate, Fate::Added) {
            let id = format!("s{entered}");
            entered += 1;
            journal.note(format!("{id} enters"));
            busy.spawn(async move { Some(Player::enter(&stage, id).await) });
        } else if !idle.is_empty() {
            let player = idle.swap_remove(rng.usize(..idle.len()));
            let rng = rng.fork();
            busy.spawn(async move {
                let who = format!("{} at {}", player.id, player.address);
                journal.note(format!("{who}: {fate:?} begins"));
                let survivor = player.meet(fate, &stage, &journal, rng).await;
                journal.note(format!("{who}: {fate:?} is over"));
                survivor
            });
        }
    }
    while let Some(over) = busy.join_next().await {
        idle.extend(over.unwrap());
    }
    idle
}

/// One call of one kind or the other; what it gives is checked.
async fn call(client: &mut EchoClient<Channel>, number: u64, rng: &mut Rng) -> (&'static str, Result<(), Status>) {
    let payload = number.to_be_bytes().to_vec();
    if rng.u8(..4) > 0 {
        let message = EchoRequest { payload: payload.clone(), delay_ms: rng.u32(..20), ..EchoRequest::default() };
        let mut request = waiting(message);
        request.set_timeout(DEADLINE);
        let answered = client.unary(request).await.map(|answer| assert_eq!(answer.into_inner().payload, payload));
        return ("unary", answered);
    }
    let wanted = rng.u32(..10);
    let message = EchoRequest { payload: payload.clone(), delay_ms: rng.u32(..5), repeat: wanted };
    let mut request = waiting(message);
    request.set_timeout(DEADLINE);
    let streamed = async {
        let mut answers = client.server_streaming(request).await?.into_inner();
        let (mut count, mut servers) = (0, Vec::new());
        while let Some(answer) = answers.message().await? {
            assert_eq!(answer.payload, payload);
            servers.push(answer.server);
            count += 1;
        }
        servers.dedup();
        assert!(count == wanted && servers.len() <= 1, "{count} of {wanted} from {servers:?}");
        Ok(())
    };
    ("streaming", streamed.await)
}

/// Calls until it has been enough. Gives the number of calls and those that failed.
async fn caller(channel: Channel, enough: Arc<AtomicBool>, mut rng: Rng) -> (u64, Vec<Failed>) {
    let mut client = echo(&channel);
    let (mut calls, mut failed) = (0, Vec::new());
    while !enough.load(Ordering::SeqCst) {
        calls += 1;
        let begun = Instant::now();
        if let (what, Err(status)) = call(&mut client, calls, &mut rng).await {
            failed.push(Failed { begun, ended: Instant::now(), what, status });
        }
    }
    (calls, failed)
}

fn from_environment(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is not a whole number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_calls_in_flight_on_a_server_that_is_cut_off_fail_whatever_happens() {
    let at_start = tasks();
    let time = Duration::from_secs(from_environment("CALLBOARD_SOAK_SECONDS").unwrap_or(10));
    let seed = from_environment("CALLBOARD_SOAK_SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("CALLBOARD_SOAK_SEED={seed}");
    let mut rng = Rng::with_seed(seed);
    let (stage, journal) = (Arc::new(Stage::new()), Arc::<Journal>::default());
    let mut players = Vec::new();
    for number in 0..SERVERS {
        players.push(Player::enter(&stage, format!("s{number}")).await);
    }
    let channel = stage.channel(stage.builder().balancer(Weighted::new()).backoff(quick()), SERVERS).await;

    let enough = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> =
        (0..CALLERS).map(|_| tokio::spawn(caller(channel.clone(), Arc::clone(&enough), rng.fork()))).collect();
    let players = fates(&stage, &journal, players, time, rng).await;
    enough.store(true, Ordering::SeqCst);
    let (mut calls, mut failures) = (0, Vec::new());
    for caller in callers {
        let (made, failed) = in_time(caller).await.unwrap();
        calls += made;
        failures.extend(failed);
    }

    let cuts = journal.cuts.lock().unwrap().len();
    eprintln!("{calls} calls, {} failed in {cuts} cuts, {} servers at the end", failures.len(), players.len());
    for failed in &failures {
        let Failed { begun, ended, what, status } = failed;
        let took = *ended - *begun;
        let around = || journal.around(failed);
        assert!(
            journal.accounts_for(failed),
            "seed {seed}: a {what} call of {took:?} failed: {status:?}\n{}",
            around()
        );
    }
    assert_recovered(&channel, &players).await;
    drop(channel);
    for player in players {
        in_time(player.server.until(|server| server.connections() == 0)).await;
        in_time(player.registration.deregister()).await.unwrap();
        in_time(player.server.kill()).await;
    }
    drop(stage);
    until("all tasks have ended", || tasks() == at_start).await;
}

/// All that live are ready, none has a call, and each has its share.
async fn assert_recovered(channel: &Channel, players: &[Player]) {
    let weight = |id: &str| players.iter().find(|player| player.id == id).map(|player| player.weight);
    until("the endpoints are those that live", || {
        let endpoints = channel.endpoints();
        let instances = endpoints.iter().map(|status| status.endpoint.instance());
        endpoints.len() == players.len() && instances.into_iter().all(|one| weight(one.id()) == Some(one.weight()))
    })
    .await;
    until_ready(channel, players.len()).await;
    let endpoints = channel.endpoints();
    assert_eq!(channel.state(), ConnectivityState::Ready);
    assert!(endpoints.iter().all(|status| status.endpoint.in_flight() == 0), "{endpoints:?}");
    assert!(players.iter().all(|player| player.server.in_flight() == 0));
    let weights: u32 = endpoints.iter().map(|status| status.endpoint.weight()).sum();
    let shares = tokio::time::timeout(PATIENCE, shares(channel, 10 * weights as usize)).await.unwrap();
    for status in &endpoints {
        let (id, weight) = (status.endpoint.instance().id(), status.endpoint.weight());
        let share = shares.get(id).copied().unwrap_or(0);
        assert_eq!(share, 10 * weight as usize, "{id} of weight {weight}: {shares:?}");
    }
}
