//! Three servers of which one is restarted again and again, gracefully, while calls of all kinds go on: none may fail.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::cases;
use crate::client::Client;
use crate::common::in_time;
use crate::fleet::{Fleet, Kind, PLAIN, TLS};
use crate::table::{Table, Verdict};

const RESTARTS: usize = 6;
/// From one restart to the next it takes as long, or until the server has been called again.
const EVERY: Duration = Duration::from_secs(1);
/// How many run cases at a time.
const RUNNERS: usize = 3;

/// Those that want a server to stay, or count what reaches all of them.
const NEED_STEADY_SERVERS: [&str; 6] = [
    "pick_first_unary",
    "cancel_after_begin",
    "cancel_after_first_response",
    "timeout_on_sleeping_server",
    "orca_per_rpc",
    "orca_oob",
];

/// What each case found in each of its runs.
type Found = BTreeMap<&'static str, Vec<Verdict>>;

/// Runs all cases again and again, until it is over.
async fn run_on(client: Client, over: Arc<AtomicBool>) -> Found {
    let mut found = Found::new();
    while !over.load(Ordering::SeqCst) {
        for case in cases::all().iter().filter(|case| !NEED_STEADY_SERVERS.contains(&case.name)) {
            found.entry(case.name).or_default().push(case.run(&client).await);
        }
    }
    found
}

async fn restart_again_and_again(client: Client) -> Vec<Found> {
    let over = Arc::new(AtomicBool::new(false));
    let runners: Vec<_> = (0..RUNNERS).map(|_| tokio::spawn(run_on(client.clone(), Arc::clone(&over)))).collect();
    for _ in 0..RESTARTS {
        sleep(EVERY).await;
        client.fleet.restart_once_called().await;
    }
    over.store(true, Ordering::SeqCst);
    let mut found = Vec::new();
    for runner in runners {
        found.push(runner.await.unwrap());
    }
    found
}

/// Whether a call was lost by what no client can help: hyper closes a connection although there is something on it that it
/// has not read, and then the system throws away what a slow client has not taken yet.
fn is_lost_by_hyper(kind: Kind, verdict: &Verdict) -> bool {
    kind == Kind::Tonic && matches!(verdict, Verdict::Failed(why) if why.contains("connection reset"))
}

/// One verdict for all runs of a case.
fn sum(runs: &[&Verdict]) -> Verdict {
    let failures: Vec<_> = runs.iter().filter(|found| matches!(found, Verdict::Failed(_))).collect();
    match failures.first() {
        Some(Verdict::Failed(why)) => Verdict::Failed(format!("{} of {} runs: {why}", failures.len(), runs.len())),
        _ => runs[0].clone(),
    }
}

async fn run(kind: Kind, title: &str) {
    let mut table = Table::new(format!("{title}, restarts"), [PLAIN.name, TLS.name]);
    for mode in [PLAIN, TLS] {
        let fleet = Fleet::start(kind, mode).await;
        let channel = in_time(fleet.channel(fleet.builder(), 3)).await;
        let found = restart_again_and_again(Client { fleet, channel }).await;
        let all = || found.iter().flat_map(|found| found.values()).flatten();
        let (runs, lost) = (all().count(), all().filter(|verdict| is_lost_by_hyper(kind, verdict)).count());
        println!(
            "{title}, {}: {lost} of {runs} runs lost a call because hyper closed with something unread",
            mode.name
        );
        // Several runs share a connection, and lose it together.
        assert!(lost <= runs / 10, "that is rare");
        table.note(format!("{}: {RESTARTS} restarts, {runs} runs of cases", mode.name));
        for case in cases::all() {
            let runs = found.iter().filter_map(|found| found.get(case.name)).flatten();
            let runs: Vec<_> = runs.filter(|verdict| !is_lost_by_hyper(kind, verdict)).collect();
            match runs.is_empty() {
                false => table.add(case.name, sum(&runs)),
                true => table.add(case.name, Verdict::LeftOut("it wants servers that stay")),
            }
        }
    }
    table.settle();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_fails_while_one_of_three_tonic_servers_restarts_again_and_again() {
    run(Kind::Tonic, "tonic").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go: make test"]
async fn no_call_fails_while_one_of_three_grpc_go_servers_restarts_again_and_again() {
    run(Kind::GrpcGo, "grpc-go").await;
}
