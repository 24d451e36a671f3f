//! What is wanted, and whether it is so.

use std::fmt::Write;

use crate::estimates::Estimates;
use crate::figures::Figure;
use crate::run::{CALLERS, Row};
use crate::table::{middle, ratio};
use crate::variants::Variant;

/// The number of callers that the goals about calls are for.
const BUSY: usize = 64;

/// A figure that is not to be above a limit.
struct Goal {
    what: String,
    limit: f64,
    unit: &'static str,
    /// None if it was not measured.
    measured: Option<f64>,
    /// What else there is to know.
    beside: String,
}

impl Goal {
    fn new(what: impl Into<String>, limit: f64, unit: &'static str, measured: Option<f64>) -> Self {
        Self { what: what.into(), limit, unit, measured, beside: String::new() }
    }

    fn line(&self) -> String {
        let Self { what, limit, unit, measured, beside } = self;
        let Some(measured) = measured else { return format!("  ?       {what}: not measured") };
        let told = format!("{what}: {measured:.2}{unit}, at most {limit:.2}{unit}{beside}");
        if measured <= limit {
            format!("  met     {told}")
        } else {
            format!("  MISSED  {told}: {:.0} % too much", (measured / limit - 1.0) * 100.0)
        }
    }
}

/// One line for each goal.
pub(crate) fn report(rows: &[Row], estimates: &Estimates) -> String {
    let goals: Vec<_> = calls(rows).into_iter().chain(pickers(estimates)).chain([publishing(estimates)]).collect();
    let missed = goals.iter().filter(|goal| goal.measured.is_some_and(|measured| measured > goal.limit)).count();
    let unknown = goals.iter().filter(|goal| goal.measured.is_none()).count();
    let mut text = format!("Goals: {} in all, {missed} missed, {unknown} not measured\n", goals.len());
    for goal in goals {
        let _ = writeln!(text, "{}", goal.line());
    }
    text
}

fn calls(rows: &[Row]) -> Vec<Goal> {
    let (ours, figure) = (Variant::Callboard, Figure::Allocations);
    let allocations = Goal {
        beside: elsewhere(|callers| middle(rows, ours, callers, figure)),
        ..Goal::new(format!("allocations per call, {BUSY} callers"), 20.0, "", middle(rows, ours, BUSY, figure))
    };
    let against = |figure: Figure, base: Variant, limit| Goal {
        beside: elsewhere(|callers| ratio(rows, ours, base, callers, figure)),
        ..Goal::new(
            format!("{} of {}, {BUSY} callers", figure.short(), base.name()),
            limit,
            "",
            ratio(rows, ours, base, BUSY, figure),
        )
    };
    vec![
        allocations,
        against(Figure::Cpu, Variant::TonicBalance, 0.75),
        against(Figure::Cpu, Variant::Bare, 1.08),
        against(Figure::Cpu, Variant::GrpcGo, 0.60),
        against(Figure::P99, Variant::TonicBalance, 1.0),
    ]
}

/// The figure with the other numbers of callers.
fn elsewhere(figure: impl Fn(usize) -> Option<f64>) -> String {
    let others = CALLERS.into_iter().filter(|callers| *callers != BUSY);
    let told: Vec<_> = others.filter_map(|callers| Some(format!("{:.2} with {callers}", figure(callers)?))).collect();
    if told.is_empty() { String::new() } else { format!(" ({})", told.join(", ")) }
}

/// At any size: the slowest counts.
fn pickers(estimates: &Estimates) -> Vec<Goal> {
    let sizes = |bench: &str| -> Vec<f64> {
        let prefix = format!("pick/{bench}/");
        estimates.iter().filter(|(name, _)| name.starts_with(&prefix)).map(|(_, nanos)| *nanos).collect()
    };
    let highest = |values: Vec<f64>| values.into_iter().reduce(f64::max);
    let mut goals = Vec::new();
    for (picker, limit) in [("round_robin", 10.0), ("weighted", 15.0)] {
        let (one, two) = (sizes(&format!("{picker}-1")), sizes(&format!("{picker}-2")));
        let ratios = one.iter().zip(&two).map(|(one, two)| two / one).collect();
        goals.push(Goal::new(format!("a pick of {picker}, any size"), limit, " ns", highest(one)));
        goals.push(Goal::new(
            format!("a pick of {picker} by each of 2 threads, times one's"),
            3.0,
            "",
            highest(ratios),
        ));
    }
    goals
}

fn publishing(estimates: &Estimates) -> Goal {
    let millis = estimates.get("membership/publish").map(|nanos| nanos / 1e6);
    Goal::new("10,000 endpoints, one weight changed: folded and published", 2.0, " ms", millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_says_whether_it_is_met_and_by_how_much_it_is_missed() {
        let line = |measured| Goal::new("it", 2.0, " ms", measured).line();
        assert_eq!(line(Some(2.0)).trim(), "met     it: 2.00 ms, at most 2.00 ms");
        assert_eq!(line(Some(2.5)).trim(), "MISSED  it: 2.50 ms, at most 2.00 ms: 25 % too much");
        assert_eq!(line(None).trim(), "?       it: not measured");
    }
}
