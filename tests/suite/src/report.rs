//! What is said while tests run, and at the end.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::needs::Need;
use crate::run::{Outcome, Test};

/// Tells of each program when the last of its tests has ended, and of what fails at once.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    to_come: BTreeMap<String, usize>,
    so_far: BTreeMap<String, Sum>,
}

#[derive(Debug, Default)]
struct Sum {
    passed: usize,
    failed: usize,
    took: Duration,
}

impl Progress {
    pub(crate) fn of(tests: &[Test]) -> Self {
        let mut progress = Self::default();
        for test in tests {
            *progress.to_come.entry(test.program.name.clone()).or_default() += 1;
        }
        progress
    }

    pub(crate) fn ended(&mut self, outcome: &Outcome) {
        let name = &outcome.test.program.name;
        let sum = self.so_far.entry(name.clone()).or_default();
        sum.took += outcome.took;
        match &outcome.trouble {
            None => sum.passed += 1,
            Some(trouble) => {
                sum.failed += 1;
                let said = fs::read(&outcome.log).unwrap_or_default();
                println!("{}", String::from_utf8_lossy(&said));
                println!("FAILED  {name} {} ({:.1} s): {trouble}", outcome.test.name, outcome.took.as_secs_f64());
            }
        }
        let Sum { passed, failed, took } = sum;
        let to_come = self.to_come.entry(name.clone()).or_default();
        *to_come = to_come.saturating_sub(1);
        if *to_come == 0 {
            let word = if *failed == 0 { "ok    " } else { "FAILED" };
            println!("{word}  {passed:4} passed  {failed:2} failed  {:7.1} s  {name}", took.as_secs_f64());
        }
    }
}

/// Tests that have been left out, by what they need.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    missing: BTreeMap<&'static str, (&'static str, BTreeMap<String, usize>)>,
    /// How many need something, whether it is there or not.
    in_a_hurry: usize,
}

impl LeftOut {
    pub(crate) fn add(&mut self, need: &Need, program: &str) {
        let (_, programs) = self.missing.entry(need.name()).or_insert_with(|| (need.brought_by(), BTreeMap::new()));
        *programs.entry(program.to_owned()).or_default() += 1;
    }

    pub(crate) fn add_one_in_a_hurry(&mut self) {
        self.in_a_hurry += 1;
    }

    pub(crate) fn tell(&self) {
        for (need, (brought_by, programs)) in &self.missing {
            let count: usize = programs.values().sum();
            println!("left out: {count} tests that need {need}: {brought_by}");
            for (program, count) in programs {
                println!("          {count:4}  {program}");
            }
        }
        if self.in_a_hurry > 0 {
            println!("left out: {} tests that need a server, which 'make test' runs", self.in_a_hurry);
        }
    }
}

/// Says what there was in all, and where to look.
pub(crate) fn sum_up(outcomes: &[Outcome], flaky: &[Outcome]) {
    println!();
    let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.trouble.is_some()).collect();
    for Outcome { test, log, .. } in &failed {
        println!("failed: {} {}, see {}", test.program.name, test.name, log.display());
    }
    for Outcome { test, log, .. } in flaky {
        println!(
            "failed, and passed when it was run again alone: {} {}; that is a fault too, see {}",
            test.program.name,
            test.name,
            log.display()
        );
    }
    let (passed, failed) = (outcomes.len() - failed.len(), failed.len());
    println!("{passed} passed, {} of them at the second try; {failed} failed", flaky.len());
}
