//! The measurements, and whether they are as expected.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::time::Duration;

use crate::Cut;
use crate::aftermath::{Aftermath, Figures};
use crate::callers::{Calls, Failed, Tally};
use crate::table::grouped;

/// How many percentage points a share may be off.
const TOLERANCE: f64 = 2.0;
/// How soon a change has to affect the calls.
const SOON: Duration = Duration::from_millis(500);

/// A time without changes, and the servers that ran.
pub(crate) struct Scene {
    pub(crate) title: &'static str,
    pub(crate) weights: BTreeMap<&'static str, u32>,
}

/// Everything that was measured.
pub(crate) struct Report {
    pub(crate) took: Duration,
    pub(crate) tally: Tally,
    pub(crate) scenes: Vec<Scene>,
    /// The connections that each server has accepted.
    pub(crate) accepted: BTreeMap<&'static str, u64>,
    pub(crate) most_in_flight: u64,
    /// How long the client took to follow each change.
    pub(crate) followed: Vec<Duration>,
    /// The server that was added, and the time from its registration to its first call.
    pub(crate) joined: (&'static str, Duration),
    pub(crate) left: (&'static str, Aftermath),
    pub(crate) cut: Cut,
}

/// A share of one server in one scene, in percent.
struct Share<'a> {
    id: &'a str,
    measured: f64,
    expected: f64,
}

impl Report {
    /// Prints the report, and returns whether everything is as expected.
    pub(crate) fn print(&self, out: &mut dyn Write) -> io::Result<bool> {
        writeln!(out, "\nshares in percent: measured (expected by weight)")?;
        let off = self.print_shares(out)?;
        let other_failures = self.print_calls(out)?;
        writeln!(out)?;
        let fine = self.print_answers(off, out)? && other_failures == 0;
        if !fine {
            writeln!(out, "\nNOT as it should be: see the shares, the failed calls, and the answers in capitals")?;
        }
        Ok(fine)
    }

    /// Returns the largest difference from the expected share, in percentage points.
    fn print_shares(&self, out: &mut dyn Write) -> io::Result<f64> {
        let none = Calls::new();
        let mut off: f64 = 0.0;
        let header: String = self.tally.answered.keys().map(|id| format!("  {id:<13}")).collect();
        writeln!(out, "  {:<13}{}", "", header.trim_end())?;
        for (index, scene) in self.scenes.iter().enumerate() {
            let shares = scene.shares(self.tally.by_scene.get(index + 1).unwrap_or(&none));
            let cell = |id: &String| match shares.iter().find(|share| share.id == id) {
                Some(Share { measured, expected, .. }) => format!("  {:<13}", format!("{measured:.1} ({expected:.1})")),
                None => format!("  {:<13}", "-"),
            };
            let cells: String = self.tally.answered.keys().map(cell).collect();
            writeln!(out, "  {:<13}{}", scene.title, cells.trim_end())?;
            off = shares.iter().map(|share| (share.measured - share.expected).abs()).fold(off, f64::max);
        }
        writeln!(out, "  off by at most {off:.2} percentage points; {TOLERANCE} are allowed")?;
        Ok(off)
    }

    /// Returns how many calls failed that need not have.
    fn print_calls(&self, out: &mut dyn Write) -> io::Result<usize> {
        let Cut { id, in_flight, aftermath, .. } = &self.cut;
        let (excused, other): (Vec<_>, Vec<_>) = self.tally.failed.iter().partition(|failed| self.is_excused(failed));
        let calls = self.tally.answered.values().sum::<u64>() + self.tally.failed.len() as u64;
        writeln!(out, "\n{} calls in {:.1} s", grouped(calls), self.took.as_secs_f64())?;
        let at_risk = match aftermath.figures().tried {
            0 => in_flight.to_string(),
            tried => format!("{in_flight}, and {tried} sent before the loss was seen"),
        };
        let mut say = |what: String, figure: String, failed: &[&Failed]| {
            writeln!(out, "  {what:<43}{figure}")?;
            statuses(failed).into_iter().try_for_each(|(status, count)| writeln!(out, "    {count} x {status}"))
        };
        say("failed".to_owned(), other.len().to_string(), &other)?;
        say(format!("failed in flight on {id} when it was cut"), format!("{} of {at_risk}", excused.len()), &excused)?;
        say(format!("{}: from registering to first call", self.joined.0), millis(self.joined.1), &[])?;
        say(format!("{}: from deregistering to last attempt", self.left.0), last(&self.left.1), &[])?;
        say(format!("{id}: from death to last attempt"), last(aftermath), &[])?;
        Ok(other.len())
    }

    /// Whether the call was on the connection of the server that was cut, and began before the client could know of the
    /// cut. Such a call may have been processed, so it must not be sent again without a retry policy.
    fn is_excused(&self, failed: &Failed) -> bool {
        let Some(lost) = self.cut.aftermath.figures().lost else { return false };
        let names_it = failed.status.message().contains(&self.cut.address);
        failed.status.code() == tonic::Code::Unavailable && names_it && failed.begun <= self.cut.at + lost
    }

    /// Prints the answers to the four questions, from the measurements. Returns whether each answer is the right one.
    fn print_answers(&self, off: f64, out: &mut dyn Write) -> io::Result<bool> {
        let (left, cut) = (&self.left.1, &self.cut.aftermath);
        let slowest = self.followed.iter().max().copied().unwrap_or_default();
        let answers = [
            Answer {
                question: "Does a new server get calls?",
                right: self.joined.1 < SOON,
                words: ["Yes", "LATE"],
                text: format!("the first {} after it began to register", millis(self.joined.1)),
            },
            Answer {
                question: "Does a gone one still get them?",
                right: left.figures().last < SOON && cut.figures().last < SOON,
                words: ["No", "YES"],
                text: format!("last call after deregistering: {}; after death: {}", last(left), last(cut)),
            },
            Answer {
                question: "How are several connections kept?",
                right: self.accepted.values().all(|connections| *connections == 1),
                words: ["By the channel", "BADLY"],
                text: self.connections(),
            },
            Answer {
                question: "Does one dialled client follow?",
                right: off <= TOLERANCE,
                words: ["Yes", "WITH WRONG SHARES"],
                text: format!("all {} changes, the slowest within {}", self.followed.len(), millis(slowest)),
            },
        ];
        for Answer { question, right, words: [yes, no], text } in &answers {
            writeln!(out, "{question:<33} {}, {text}.", if *right { yes } else { no })?;
        }
        Ok(answers.iter().all(|answer| answer.right))
    }

    fn connections(&self) -> String {
        let counts: BTreeSet<_> = self.accepted.values().map(u64::to_string).collect();
        let counts = Vec::from_iter(counts).join(" or ");
        format!("{counts} HTTP/2 connection per server, up to {} calls on one", self.most_in_flight)
    }
}

/// An answer to a question, with one word for a right answer and one for a wrong answer.
struct Answer {
    question: &'static str,
    right: bool,
    words: [&'static str; 2],
    text: String,
}

impl Scene {
    fn shares<'a>(&'a self, calls: &'a Calls) -> Vec<Share<'a>> {
        let all: u64 = calls.values().sum();
        let weights: u32 = self.weights.values().sum();
        let percent = |part: f64, whole: f64| if whole > 0.0 { 100.0 * part / whole } else { 0.0 };
        let share = |id| Share {
            id,
            measured: percent(calls.get(id).copied().unwrap_or_default() as f64, all as f64),
            expected: percent(f64::from(self.weights.get(id).copied().unwrap_or_default()), f64::from(weights)),
        };
        // Every server that answered is listed, even if no calls were expected there.
        let ids: BTreeSet<&str> = self.weights.keys().copied().chain(calls.keys().map(String::as_str)).collect();
        ids.into_iter().map(share).collect()
    }
}

/// The errors of failed calls, with their number.
fn statuses(failed: &[&Failed]) -> BTreeMap<String, usize> {
    let mut statuses = BTreeMap::new();
    for Failed { status, .. } in failed {
        *statuses.entry(format!("{:?}: {}", status.code(), status.message())).or_default() += 1;
    }
    statuses
}

/// When the last call was tried there.
fn last(aftermath: &Aftermath) -> String {
    match aftermath.figures() {
        Figures { tried: 0, .. } => "none".to_owned(),
        Figures { tried, last, .. } => format!("{} ({tried} tried)", millis(last)),
    }
}

fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1_000.0)
}
