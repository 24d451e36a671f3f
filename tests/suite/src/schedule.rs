//! Which test runs when. There are some places, and a test takes one or more of them: most wait for most of their time, for a
//! lease to end or for a server to start.

use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::costs;
use crate::report;
use crate::run::{Outcome, Test};

/// Places that are free.
struct Places {
    free: Mutex<usize>,
    returned: Condvar,
}

impl Places {
    fn free(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, count: usize) {
        let free = self.returned.wait_while(self.free(), |free| *free < count);
        *free.unwrap_or_else(PoisonError::into_inner) -= count;
    }

    fn give_back(&self, count: usize) {
        *self.free() += count;
        self.returned.notify_all();
    }
}

/// Runs all of them: first those that wait, those that take most places before the others, and then those that measure.
pub(crate) fn run(tests: Vec<Test>, places: usize, logs: &Path) -> Vec<Outcome> {
    let (quiet, mut others): (Vec<_>, Vec<_>) = tests.into_iter().partition(|test| costs::is_quiet(&test.program.name));
    others.sort_by_key(|test| std::cmp::Reverse(costs::of(&test.program.name, places)));
    let mut outcomes = run_at_once(others, places, logs);
    outcomes.extend(run_at_once(quiet, places, logs));
    outcomes
}

fn run_at_once(tests: Vec<Test>, places: usize, logs: &Path) -> Vec<Outcome> {
    let there = Places { free: Mutex::new(places), returned: Condvar::new() };
    let told = Mutex::new(report::Progress::of(&tests));
    let outcomes = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for test in tests {
            let cost = costs::of(&test.program.name, places);
            there.take(cost);
            let (there, told, outcomes) = (&there, &told, &outcomes);
            scope.spawn(move || {
                let outcome = test.run(logs);
                there.give_back(cost);
                told.lock().unwrap_or_else(PoisonError::into_inner).ended(&outcome);
                outcomes.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
            });
        }
    });
    outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
}
