//! What is printed.

use std::fmt::Write;

use crate::estimates::Estimates;
use crate::figures::{Figure, median};
use crate::memory::Held;
use crate::run::{CALLERS, Row};
use crate::variants::Variant;

/// The variants that ratios are given to.
const BASES: [(Variant, &str); 3] = [(Variant::TonicBalance, "/b"), (Variant::Bare, "/c"), (Variant::GrpcGo, "/e")];

/// The median of a figure. None if the variant was not measured.
pub(crate) fn middle(rows: &[Row], variant: Variant, callers: usize, figure: Figure) -> Option<f64> {
    let of = |row: &&Row| row.variant == variant && row.callers == callers;
    median(rows.iter().filter(of).map(|row| figure.of(&row.sample)))
}

/// The median over the rounds of the ratio of two variants' figures in one round.
pub(crate) fn ratio(rows: &[Row], of: Variant, to: Variant, callers: usize, figure: Figure) -> Option<f64> {
    let find = |variant, round| {
        rows.iter()
            .find(|row| row.variant == variant && row.callers == callers && row.round == round)
            .map(|row| figure.of(&row.sample))
    };
    let rounds = rows.iter().map(|row| row.round).max()?;
    median((0..=rounds).filter_map(|round| Some(find(of, round)? / find(to, round)?)))
}

/// One table for each figure.
pub(crate) fn calls(rows: &[Row], why_no_go: Option<&str>) -> String {
    let rounds = rows.iter().map(|row| row.round + 1).max().unwrap_or(0);
    let mut text = format!(
        "Unary echo of 4 bytes. Medians of {rounds} rounds; /b, /c and /e are medians of the ratio within a round.\n"
    );
    if let Some(why) = why_no_go {
        let _ = writeln!(text, "{} was not measured: {why}.", Variant::GrpcGo.title());
    }
    for figure in Figure::ALL {
        let _ = write!(text, "\n{:<30}", figure.title());
        for callers in CALLERS {
            let callers = if callers == 1 { "1 caller".to_owned() } else { format!("{callers} callers") };
            let _ = write!(text, "{callers:>14}");
            for (_, base) in BASES {
                let _ = write!(text, "{base:>5}");
            }
        }
        for variant in Variant::ALL {
            text.push('\n');
            text.push_str(line(rows, variant, figure).trim_end());
        }
        text.push('\n');
    }
    text
}

fn line(rows: &[Row], variant: Variant, figure: Figure) -> String {
    let mut line = format!("  {:<28}", variant.title());
    for callers in CALLERS {
        let _ = write!(line, "{:>14}", shown(middle(rows, variant, callers, figure), 1));
        for (base, _) in BASES {
            let _ = write!(line, "{:>5}", shown(ratio(rows, variant, base, callers, figure), 2));
        }
    }
    line
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// The micro-benches.
pub(crate) fn micro(estimates: &Estimates) -> String {
    let mut text = String::from("Micro-benches, medians\n");
    if estimates.is_empty() {
        text.push_str("  not measured: cargo bench --package callboard-bench\n");
    }
    for (name, nanos) in estimates {
        let time = if *nanos < 1e4 { format!("{nanos:.1} ns") } else { format!("{:.1} µs", nanos / 1e3) };
        let _ = writeln!(text, "  {name:<28}{time:>12}");
    }
    text
}

pub(crate) fn memory(held: &Held) -> String {
    format!(
        "Memory, by the allocator's count\n  {:<28}{:>8.0} bytes\n  {:<28}{:>8.0} bytes\n",
        "an idle endpoint, connected", held.endpoint, "an idle channel", held.channel
    )
}

/// Every sample.
pub(crate) fn csv(rows: &[Row]) -> String {
    let mut text =
        String::from("round,variant,callers,cpu_us_per_call,calls_per_second,p50_us,p99_us,allocations_per_call\n");
    for Row { round, variant, callers, sample } in rows {
        let _ = writeln!(
            text,
            "{round},{},{callers},{:.3},{:.0},{:.1},{:.1},{:.2}",
            variant.name(),
            sample.cpu_us_per_call,
            sample.calls_per_second,
            sample.p50_us,
            sample.p99_us,
            sample.allocations_per_call
        );
    }
    text
}
