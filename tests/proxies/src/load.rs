//! Callers that call all the time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use callboard_servers::Program;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::callers::{Caller, Kind};
use crate::client::{self, Client, Made};
use crate::go;
use crate::tally::Tally;

/// Longer than anything here takes, on a busy machine; only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// How calls are made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    /// How many make unary calls at a time.
    pub(crate) unary: usize,
    /// How many have a server stream at a time, and as many a bidirectional one.
    pub(crate) streams: usize,
    /// Whether one stream lasts from the beginning to the end.
    pub(crate) whole: bool,
    /// How long the server thinks about a unary call.
    pub(crate) delay_ms: u32,
    /// How long each caller waits between its calls, at least and at most.
    pub(crate) pause: (Duration, Duration),
    /// Whether unary calls and server streams are marked as what may be sent twice.
    pub(crate) idempotent: bool,
    /// Whether calls wait until a proxy is there.
    pub(crate) wait_for_ready: bool,
}

impl Wish {
    /// 32 callers, and streams of both kinds that outlive many of their calls.
    pub(crate) const MIXED: Self = Self {
        unary: 32,
        streams: 4,
        whole: true,
        delay_ms: 0,
        pause: (Duration::ZERO, Duration::ZERO),
        idempotent: false,
        wait_for_ready: false,
    };

    /// How many calls are in flight at once.
    pub(crate) fn in_flight(&self) -> u64 {
        (self.unary + 2 * self.streams + usize::from(self.whole)) as u64
    }

    fn kinds(&self) -> impl Iterator<Item = Kind> {
        let so_many = |kind, count| std::iter::repeat_n(kind, count);
        so_many(Kind::Unary, self.unary)
            .chain(so_many(Kind::ServerStream, self.streams))
            .chain(so_many(Kind::Bidirectional, self.streams))
            .chain(so_many(Kind::Whole, usize::from(self.whole)))
    }
}

/// Callers at work. Their calls end before [`finish`](Self::finish) returns.
pub(crate) enum Load {
    Here { over: Arc<AtomicBool>, tally: Arc<Mutex<Tally>>, callers: JoinSet<()>, made: Option<Made> },
    Go(Program),
}

impl Load {
    pub(crate) async fn start(client: Client, to: &[SocketAddr], wish: Wish) -> Self {
        let made = Made::default();
        match client {
            Client::Callboard => {
                let channel = client::callboard(to, wish.wait_for_ready, &made).await;
                Self::here(channel, wish, Some(made))
            }
            Client::Tonic => Self::here(client::tonic(to), wish, None),
            Client::GrpcGo => Self::go(to, wish).await,
        }
    }

    fn here(channel: client::AnyChannel, wish: Wish, made: Option<Made>) -> Self {
        let (over, tally) = (Arc::default(), Arc::default());
        let caller = Caller { channel, wish, over: Arc::clone(&over), tally: Arc::clone(&tally) };
        let callers = wish.kinds().map(|kind| caller.clone().run(kind)).collect();
        Self::Here { over, tally, callers, made }
    }

    async fn go(to: &[SocketAddr], wish: Wish) -> Self {
        let servers: Vec<_> = to.iter().map(ToString::to_string).collect();
        let (least, most) = wish.pause;
        let figures = [wish.unary, wish.streams, wish.delay_ms as usize, usize::from(wish.wait_for_ready)];
        let pauses = [least, most].map(|pause| pause.as_micros().to_string());
        let program = go::program("load_client").await.arg(servers.join(","));
        let program = program.args(figures.map(|figure| figure.to_string())).args(pauses).start();
        program.line("calls").await;
        Self::Go(program)
    }

    pub(crate) fn tally(&self) -> Tally {
        match self {
            Self::Here { tally, made, .. } => {
                let connections = made.as_ref().map(Made::in_all);
                Tally { connections, ..tally.lock().unwrap().clone() }
            }
            Self::Go(program) => told(&program.lines()),
        }
    }

    /// Waits until callers have made more calls, each some.
    pub(crate) async fn goes_on(&self) {
        let good = |tally: &Tally| tally.calls() - tally.failed();
        let wanted = good(&self.tally()) + 128;
        let looked = async {
            while good(&self.tally()) < wanted {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let more = timeout(PATIENCE, looked).await;
        more.unwrap_or_else(|_| panic!("no more calls within {PATIENCE:?}: {:?}", self.tally()));
    }

    /// How many connections were made to this address. None if that is not known.
    pub(crate) fn made_at(&self, address: SocketAddr) -> Option<u64> {
        match self {
            Self::Here { made, .. } => made.as_ref().map(|made| made.at(address)),
            Self::Go(_) => None,
        }
    }

    /// Waits until there is a further connection to this address than those that were made.
    pub(crate) async fn returns_to(&self, address: SocketAddr, made: Option<u64>) {
        let looked = async {
            while made.is_some() && self.made_at(address) <= made {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, looked).await.unwrap_or_else(|_| panic!("no connection to {address} within {PATIENCE:?}"));
    }

    pub(crate) async fn finish(mut self) -> Tally {
        match &mut self {
            Self::Here { over, callers, .. } => {
                over.store(true, Ordering::Relaxed);
                let ended = async {
                    while let Some(ended) = callers.join_next().await {
                        ended.unwrap();
                    }
                };
                timeout(PATIENCE, ended).await.expect("all calls end");
            }
            Self::Go(program) => {
                program.terminate();
                program.line("over").await;
            }
        }
        self.tally()
    }
}

/// What the client in Go has said last.
fn told(lines: &[String]) -> Tally {
    let mut tally = Tally::default();
    for line in lines {
        if let Some(figures) = line.strip_prefix("calls ") {
            let figures: Vec<u64> = figures.split(' ').map(|figure| figure.parse().unwrap()).collect();
            (tally.unary, tally.streams) = (figures[0], figures[1]);
            (tally.connections, tally.slowest) = (Some(figures[2]), Duration::from_micros(figures[3]));
        } else if let Some((count, failure)) = line.strip_prefix("failed ").and_then(|line| line.split_once(' ')) {
            tally.failures.insert(failure.to_owned(), count.parse().unwrap());
        }
    }
    tally
}
