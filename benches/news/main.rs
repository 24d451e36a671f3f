//! How fast news travels: from a server that changes its weight or signs in, to a client that knows of it and calls it.
//! Beside it, in the same run, what etcd itself takes from a put to the event at a watch.
//!
//! ```text
//! callboard-bench-news [ROUNDS]     200 rounds by default; needs etcd: make servers
//! ```
//!
//! Each round measures every way once, one after the other, so that whatever else the machine does meets all alike.

mod etcd;
mod ours;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use callboard_servers::Cluster;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// Changes are gathered for 20 ms after one was passed on. News that comes one at a time do not meet that; neither do
/// these.
const APART: Duration = Duration::from_millis(40);

/// The ways, in the order of the table; each with the one that it is compared with.
const WAYS: [(&str, Option<usize>); 5] = [
    ("etcd: put to event", None),
    ("callboard: new weight to view", Some(0)),
    ("etcd: grant and put to event", None),
    ("callboard: sign in to view", Some(2)),
    ("callboard: sign in to answer of first call", Some(2)),
];

#[tokio::main]
async fn main() -> ExitCode {
    let rounds = std::env::args().nth(1).map_or(Ok(200), |rounds| rounds.parse());
    let done = match rounds {
        Ok(rounds) => run(rounds).await,
        Err(error) => Err(format!("ROUNDS: {error}").into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("callboard-bench-news: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(rounds: usize) -> Result<()> {
    let server = Cluster::etcd().start().await;
    let mut etcd = etcd::Watch::open(server.address()).await?;
    let mut ours = ours::Follower::open(server.address()).await?;
    let mut times: [Vec<Duration>; WAYS.len()] = Default::default();
    for round in 0..rounds {
        times[0].push(etcd.put(round).await?);
        times[1].push(ours.new_weight(round).await?);
        times[2].push(etcd.grant_and_put(round).await?);
        times[3].push(ours.sign_in(round).await?);
        times[4].push(ours::first_call(server.address(), round).await?);
        tokio::time::sleep(APART).await;
    }
    print(rounds, times);
    Ok(())
}

fn print(rounds: usize, mut times: [Vec<Duration>; WAYS.len()]) {
    for times in &mut times {
        times.sort();
    }
    let at = |way: usize, share: f64| times[way][((rounds - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!("{:44} {:>10} {:>10} {:>8} {:>8}   {rounds} rounds", "from … to …", "median, ms", "p99, ms", "times", "times");
    for (way, (name, base)) in WAYS.iter().enumerate() {
        let (median, p99) = (at(way, 0.5), at(way, 0.99));
        match base {
            None => println!("{name:44} {median:10.2} {p99:10.2}"),
            Some(base) => {
                let (of_median, of_p99) = (median / at(*base, 0.5), p99 / at(*base, 0.99));
                println!("{name:44} {median:10.2} {p99:10.2} {of_median:8.2} {of_p99:8.2}   of {}", WAYS[*base].0);
            }
        }
    }
}
