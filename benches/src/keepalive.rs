//! Whether grpc-go's server bears callboard's PINGs.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use callboard::balancer::RoundRobin;
use callboard::{Channel, Instance, Keepalive, Snapshot};
use callboard_bench::{feed, service};
use callboard_echo::pb::EchoRequest;
use callboard_echo::pb::echo_client::EchoClient;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use crate::{Result, grpc_go};

/// grpc-go's server ends a connection at the third PING that comes too early, and the first one never does.
const PINGS: u32 = 5;

/// How long the server has to complain about the last PING.
const GRACE: Duration = Duration::from_secs(3);

/// Keeps one call open that is silent until the server has had [`PINGS`], and prints what the server says. A complaint,
/// or the loss of the connection or the call, is an error. Then the call is given up, and the connection watched for
/// PINGs for two intervals more: without a call there must be none.
///
/// `borne` is the shortest time between two PINGs that the server bears, and `every` callboard's interval; without
/// them, both have their defaults.
pub(crate) fn watch(borne: Option<&str>, every: Option<Duration>, into: &Path) -> Result<()> {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut server = Server::start(borne, into)?;
    let watched = runtime.block_on(try_on(&mut server, every));
    server.end()?;
    watched
}

async fn try_on(server: &mut Server, every: Option<Duration>) -> Result<()> {
    let address: SocketAddr = server.said(GRACE).await?.parse()?;
    let (registry, resolver) = feed();
    registry.send(Snapshot::new(vec![Instance::at(address.try_into()?)?]))?;
    let (keepalive, interval) = match every {
        Some(every) => (Keepalive::every(every), every),
        None => (Keepalive::default(), Duration::from_secs(310)),
    };
    let builder = Channel::builder(service()).resolver(resolver).balancer(RoundRobin::new());
    let channel = builder.keepalive(keepalive).build()?;
    channel.wait_ready(GRACE).await?;
    let mut call = EchoClient::new(channel.clone()).server_streaming(EchoRequest::default()).await?.into_inner();
    server.expect("open", GRACE).await?;
    for _ in 0..PINGS {
        server.expect("ping", interval + GRACE).await?;
    }
    server.silence(GRACE).await?;
    if let Ok(ended) = timeout(Duration::ZERO, call.message()).await {
        return Err(format!("the call has ended: {ended:?}").into());
    }
    println!("{PINGS} PINGs borne, and the call is still open");
    drop(call);
    server.silence(interval * 2 + GRACE).await?;
    println!("no PING within two intervals without a call");
    Ok(())
}

/// The server, a process of its own that lives until its standard input ends.
struct Server {
    child: Child,
    lines: UnboundedReceiver<String>,
    begun: Instant,
}

impl Server {
    fn start(borne: Option<&str>, into: &Path) -> Result<Self> {
        let mut command = grpc_go::build("./keepalive", into)?;
        let mut child = command.args(borne).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let (sender, lines) = unbounded_channel();
        // It ends with the server, or when nobody listens any more.
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Ok(Self { child, lines, begun: Instant::now() })
    }

    async fn said(&mut self, within: Duration) -> Result<String> {
        let line =
            timeout(within, self.lines.recv()).await.map_err(|_| format!("the server says nothing in {within:?}"))?;
        let line = line.ok_or("the server has ended")?;
        println!("{:7.1} s: {line}", self.begun.elapsed().as_secs_f64());
        Ok(line)
    }

    async fn expect(&mut self, wanted: &str, within: Duration) -> Result<()> {
        let line = self.said(within).await?;
        if line == wanted { Ok(()) } else { Err(format!("expected {wanted:?} of the server: {line:?}").into()) }
    }

    async fn silence(&mut self, within: Duration) -> Result<()> {
        match timeout(within, self.lines.recv()).await {
            Err(_) => Ok(()),
            Ok(line) => Err(format!("expected nothing of the server: {line:?}").into()),
        }
    }

    fn end(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        self.child.wait()?;
        Ok(())
    }
}
