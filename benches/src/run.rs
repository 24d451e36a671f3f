//! The whole run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::child::{self, Process};
use crate::figures::Sample;
use crate::memory::Held;
use crate::variants::Variant;
use crate::{Result, estimates, goals, grpc_go, table};

/// How many callers call at once.
pub(crate) const CALLERS: [usize; 4] = [1, 16, 64, 256];

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    rounds: usize,
    /// Of one variant with one number of callers in one round.
    millis: u64,
}

impl Plan {
    pub(crate) const FULL: Self = Self { rounds: 15, millis: 400 };
    /// For work on the benches themselves: too short to be believed.
    pub(crate) const QUICK: Self = Self { rounds: 3, millis: 100 };
}

/// One measurement.
pub(crate) struct Row {
    pub(crate) round: usize,
    pub(crate) variant: Variant,
    pub(crate) callers: usize,
    pub(crate) sample: Sample,
}

/// Measures, prints, writes `target/bench/report.txt` and `rounds.csv`. Missed goals are printed; only failed calls,
/// or a run that cannot be carried out, are an error.
pub(crate) fn everything(plan: Plan) -> Result<()> {
    let target = target()?;
    let into = target.join("bench");
    fs::create_dir_all(&into)?;
    let (_servers, addresses) = child::servers()?;
    let go = grpc_go::build(".", &into.join("grpc-go")).and_then(|mut command| {
        child::connected(&mut command, &addresses).map_err(|error| format!("the client in Go does not start: {error}"))
    });
    let (go, why_no_go) = match go {
        Ok(client) => (Some(client), None),
        Err(why) => (None, Some(why)),
    };
    let mut clients = Vec::new();
    for variant in Variant::ALL.into_iter().filter(|variant| *variant != Variant::GrpcGo) {
        clients.push((variant, child::client(variant, &addresses)?));
    }
    clients.extend(go.map(|client| (Variant::GrpcGo, client)));
    let rows = rounds(plan, &mut clients)?;
    drop(clients);
    let held: Held = child::told("memory")?;
    let estimates = estimates::read(&target.join("criterion"));

    let report = [
        table::calls(&rows, why_no_go.as_deref()),
        table::micro(&estimates),
        table::memory(&held),
        goals::report(&rows, &estimates),
    ]
    .join("\n");
    println!("{report}");
    fs::write(into.join("report.txt"), report)?;
    fs::write(into.join("rounds.csv"), table::csv(&rows))?;
    println!("written to {}: report.txt, rounds.csv", into.display());
    failures(&rows)
}

/// All variants in turn, again and again: what disturbs the machine disturbs them alike. Each round begins with
/// another one, so that none always follows the same.
fn rounds(plan: Plan, clients: &mut [(Variant, Process)]) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for round in 0..plan.rounds {
        eprintln!("round {} of {}", round + 1, plan.rounds);
        for callers in CALLERS {
            for turn in 0..clients.len() {
                let index = (round + turn) % clients.len();
                let (variant, client) = &mut clients[index];
                let sample = client
                    .measure(callers, plan.millis)
                    .map_err(|error| format!("{} with {callers} callers: {error}", variant.name()))?;
                rows.push(Row { round, variant: *variant, callers, sample });
            }
        }
    }
    Ok(rows)
}

/// The build's folder, in which this program is `release/callboard-bench`.
pub(crate) fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.parent().and_then(Path::parent);
    Ok(target.ok_or("this program is not in a build's folder")?.to_owned())
}

fn failures(rows: &[Row]) -> Result<()> {
    let failed: u64 = rows.iter().map(|row| row.sample.failed).sum();
    let Some(first) = rows.iter().find(|row| row.sample.failed > 0) else { return Ok(()) };
    let (name, why) = (first.variant.name(), first.sample.failure.as_deref().unwrap_or("no status"));
    Err(format!("{failed} callers ended with a failed call; the first, {name} with {}: {why}", first.callers).into())
}
