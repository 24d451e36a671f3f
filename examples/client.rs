//! Calls callboard's echo service, found in any registry that is compiled in:
//!
//! ```text
//! cargo run --features etcd --example client -- 'etcd://127.0.0.1:2379/project/test?balancer=round_robin' --callers 16 --for 30s [--wait-for-ready]
//! ```
//!
//! It prints a line a second, with all counts since the start: `t=3 calls=12345 failed=0 127.0.0.1:41233=6172
//! 127.0.0.1:41234=6173`. It prints each kind of failure once, and a total at the end. The exit status is 1 if a call
//! has failed. Without `--for` it calls until Ctrl-C.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use callboard::{Channel, Dialer, ServedBy};
use callboard_echo::pb::EchoRequest;
use callboard_echo::pb::echo_client::EchoClient;
use lexopt::prelude::*;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep};
use tonic::{Request, Status};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The deadline of each call.
const DEADLINE: Duration = Duration::from_secs(10);

struct Options {
    url: String,
    callers: usize,
    time: Duration,
    wait_for_ready: bool,
}

fn options() -> Result<Options> {
    let (mut url, mut callers, mut time, mut wait_for_ready) = (None, 16, Duration::MAX, false);
    let mut arguments = lexopt::Parser::from_env();
    while let Some(argument) = arguments.next()? {
        match argument {
            Long("callers") => callers = arguments.value()?.parse()?,
            Long("for") => time = arguments.value()?.parse_with(humantime::parse_duration)?,
            Long("wait-for-ready") => wait_for_ready = true,
            Value(value) if url.is_none() => url = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let url = url.ok_or("usage: client URL [--callers N] [--for 30s] [--wait-for-ready]")?;
    Ok(Options { url, callers, time, wait_for_ready })
}

/// The results of the calls.
#[derive(Default)]
struct Tally {
    calls: u64,
    failed: u64,
    by_server: BTreeMap<String, u64>,
    /// The kinds of failure that were printed: a code, and the message without its numbers.
    told: Vec<(tonic::Code, String)>,
}

impl Tally {
    fn note(&mut self, outcome: std::result::Result<String, Status>) {
        self.calls += 1;
        let status = match outcome {
            Ok(server) => return *self.by_server.entry(server).or_default() += 1,
            Err(status) => status,
        };
        self.failed += 1;
        let kind = (status.code(), status.message().replace(|c: char| c.is_ascii_digit(), ""));
        if !self.told.contains(&kind) {
            eprintln!("{:?}: {}", status.code(), status.message());
            self.told.push(kind);
        }
    }

    fn line(&self) -> String {
        let mut line = format!("calls={} failed={}", self.calls, self.failed);
        for (server, calls) in &self.by_server {
            let _ = write!(line, " {server}={calls}");
        }
        line
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns how many calls have failed.
async fn run() -> Result<u64> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()))
        .with_writer(std::io::stderr)
        .init();
    let Options { url, callers, time, wait_for_ready } = options()?;
    let mut builder = Dialer::new().builder(&url)?;
    if wait_for_ready {
        builder = builder.wait_for_ready(true);
    }
    let channel = builder.build()?;

    let (tally, over) = (Arc::new(Mutex::new(Tally::default())), Arc::new(AtomicBool::new(false)));
    let callers: JoinSet<()> =
        (0..callers).map(|_| call(channel.clone(), Arc::clone(&tally), Arc::clone(&over))).collect();
    tokio::select! {
        () = report(&tally) => {}
        () = sleep(time) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    over.store(true, Ordering::Relaxed);
    callers.join_all().await; // each call ends by its deadline

    let tally = tally.lock().expect("no caller panics");
    println!("total calls={} failed={}", tally.calls, tally.failed);
    Ok(tally.failed)
}

/// Calls without a pause, except for a short one after a failure.
async fn call(channel: Channel, tally: Arc<Mutex<Tally>>, over: Arc<AtomicBool>) {
    let mut client = EchoClient::new(channel);
    while !over.load(Ordering::Relaxed) {
        let mut request = Request::new(EchoRequest { payload: b"echo".to_vec(), ..EchoRequest::default() });
        request.set_timeout(DEADLINE);
        let outcome = client.unary(request).await.map(|response| match response.extensions().get() {
            Some(ServedBy(endpoint)) => endpoint.instance().address().to_string(),
            None => "unknown".to_owned(),
        });
        let failed = outcome.is_err();
        tally.lock().expect("no caller panics").note(outcome);
        if failed {
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Prints a line a second, for ever.
async fn report(tally: &Mutex<Tally>) {
    let (start, mut seconds) = (Instant::now(), interval(Duration::from_secs(1)));
    seconds.tick().await;
    loop {
        seconds.tick().await;
        println!("t={} {}", start.elapsed().as_secs(), tally.lock().expect("no caller panics").line());
    }
}
