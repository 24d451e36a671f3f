//! What is measured: the ways for a generated client to reach a server.

mod bare;
mod board;
mod tonics;

use std::io::{BufRead, stdin};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use callboard_echo::pb::echo_client::EchoClient;
use tokio::runtime::{Builder, Runtime};

use crate::Result;
use crate::load::{self, Channel};

/// One way to reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    TonicOne,
    TonicBalance,
    Bare,
    Callboard,
    GrpcGo,
}

impl Variant {
    pub(crate) const ALL: [Self; 5] = [Self::TonicOne, Self::TonicBalance, Self::Bare, Self::Callboard, Self::GrpcGo];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::TonicOne => "tonic-one",
            Self::TonicBalance => "tonic-balance",
            Self::Bare => "bare-h2",
            Self::Callboard => "callboard",
            Self::GrpcGo => "grpc-go",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::TonicOne => "a  tonic Channel, one server",
            Self::TonicBalance => "b  tonic balance_channel",
            Self::Bare => "c  bare h2, a counter",
            Self::Callboard => "d  callboard round_robin",
            Self::GrpcGo => "e  grpc-go round_robin",
        }
    }

    pub(crate) fn named(name: &str) -> Result<Self> {
        let all = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|variant| variant.name() == name).ok_or_else(|| format!("one of {}", all()).into())
    }
}

/// What a client does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Job {
    /// Measures as each line of standard input says, `CALLERS MILLISECONDS`, and prints a line for it.
    Orders,
    /// Makes so many calls on one thread.
    Calls { callers: u64, count: u64 },
}

impl Job {
    fn runtime(self) -> Result<Runtime> {
        Ok(match self {
            Self::Orders => Builder::new_multi_thread().worker_threads(2).enable_all().build()?,
            Self::Calls { .. } => Builder::new_current_thread().enable_all().build()?,
        })
    }
}

/// Connects and does the job. grpc-go is a program of its own.
pub(crate) fn run(variant: Variant, servers: &[SocketAddr], job: Job) -> Result<()> {
    let runtime = job.runtime()?;
    match variant {
        Variant::TonicOne => work(&runtime, runtime.block_on(tonics::one(servers))?, job),
        Variant::TonicBalance => work(&runtime, runtime.block_on(tonics::balance(servers))?, job),
        Variant::Bare => work(&runtime, runtime.block_on(bare::connect(servers))?, job),
        Variant::Callboard => work(&runtime, runtime.block_on(board::connect(servers))?, job),
        Variant::GrpcGo => Err("grpc-go is not in this program".into()),
    }
}

fn work<C: Channel>(runtime: &Runtime, channel: C, job: Job) -> Result<()> {
    let client = EchoClient::new(channel);
    match job {
        Job::Orders => follow_orders(runtime, &client),
        Job::Calls { callers, count } => runtime.block_on(make_calls(&client, callers, count)),
    }
}

fn follow_orders<C: Channel>(runtime: &Runtime, client: &EchoClient<C>) -> Result<()> {
    println!("ready");
    for line in stdin().lock().lines() {
        let line = line?;
        let (callers, millis) = line.split_once(' ').ok_or("expected: CALLERS MILLISECONDS")?;
        let window = Duration::from_millis(millis.parse()?);
        let sample = runtime.block_on(load::measure(client, callers.parse()?, window));
        println!("{}", serde_json::to_string(&sample)?);
    }
    Ok(())
}

async fn make_calls<C: Channel>(client: &EchoClient<C>, callers: u64, count: u64) -> Result<()> {
    let begun = Arc::new(AtomicU64::new(0));
    let caller = || {
        let (mut client, begun) = (client.clone(), Arc::clone(&begun));
        tokio::spawn(async move {
            while begun.fetch_add(1, Ordering::Relaxed) < count {
                load::call(&mut client).await?;
            }
            Ok::<_, tonic::Status>(())
        })
    };
    let tasks: Vec<_> = (0..callers).map(|_| caller()).collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}
