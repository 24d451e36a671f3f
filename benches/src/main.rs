//! Measures calls through callboard's channel beside tonic's own, the bare HTTP/2 connection and grpc-go, in one run.
//!
//! Without arguments it measures everything, prints tables and goals, and writes them to `target/bench`. It starts
//! itself again as the servers and as each of the clients, so that no two of them share a process:
//!
//! ```text
//! callboard-bench [--quick]                         everything
//! callboard-bench servers                           three echo servers, until standard input ends
//! callboard-bench client VARIANT ADDRESS...         one client, which takes its orders from standard input
//! callboard-bench calls VARIANT CALLERS COUNT       a fixed number of calls on one thread, for a profiler
//! callboard-bench memory                            what an idle endpoint and an idle channel hold
//! callboard-bench keepalive [BORNE SECONDS]         callboard's PINGs against grpc-go's server; see docs/decisions
//! ```

mod allocations;
mod child;
mod estimates;
mod figures;
mod goals;
mod grpc_go;
mod keepalive;
mod load;
mod memory;
mod run;
mod servers;
mod table;
mod variants;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use variants::{Job, Variant};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match *arguments.as_slice() {
        [] => run::everything(run::Plan::FULL),
        ["--quick"] => run::everything(run::Plan::QUICK),
        ["servers"] => servers::serve(),
        ["client", variant, ref addresses @ ..] => client(variant, addresses),
        ["calls", variant, callers, count] => calls(variant, callers, count),
        ["memory"] => memory::measure(),
        ["keepalive"] => keepalive(None, None),
        ["keepalive", borne, seconds] => keepalive(Some(borne), Some(seconds)),
        _ => Err("see the top of benches/src/main.rs for the arguments".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("callboard-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn client(variant: &str, addresses: &[&str]) -> Result<()> {
    let addresses = addresses.iter().map(|address| Ok(address.parse()?)).collect::<Result<Vec<_>>>()?;
    variants::run(Variant::named(variant)?, &addresses, Job::Orders)
}

fn calls(variant: &str, callers: &str, count: &str) -> Result<()> {
    let job = Job::Calls { callers: callers.parse()?, count: count.parse()? };
    let (_servers, addresses) = child::servers()?;
    variants::run(Variant::named(variant)?, &addresses, job)
}

/// `BORNE` is a duration as Go writes it, or `default`.
fn keepalive(borne: Option<&str>, seconds: Option<&str>) -> Result<()> {
    let every = seconds.map(str::parse).transpose()?.map(Duration::from_secs);
    keepalive::watch(borne.filter(|borne| *borne != "default"), every, &run::target()?.join("grpc-go-keepalive"))
}
