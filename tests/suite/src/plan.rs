//! Which tests are run.

use std::io;
use std::sync::Arc;

use crate::costs;
use crate::listing::Tests;
use crate::needs::Need;
use crate::options::Options;
use crate::programs::Program;
use crate::report::LeftOut;
use crate::run::Test;

/// What is run, and what is not.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) tests: Vec<Test>,
    pub(crate) left_out: LeftOut,
    /// Programs that are left out to be fast.
    pub(crate) slow: Vec<String>,
}

impl Plan {
    pub(crate) fn of(programs: Vec<Program>, missing: &[&'static Need], options: &Options) -> io::Result<Self> {
        costs::check(&programs)?;
        let mut plan = Self::default();
        for program in programs.into_iter().filter(|program| options.are_for(&program.name)) {
            if options.fast && costs::is_slow(&program.name) {
                plan.slow.push(program.name);
            } else {
                plan.add(&Arc::new(program), missing, options)?;
            }
        }
        if plan.tests.is_empty() {
            return Err(io::Error::other("there is no such test"));
        }
        Ok(plan)
    }

    fn add(&mut self, program: &Arc<Program>, missing: &[&'static Need], options: &Options) -> io::Result<()> {
        let Tests { names, ignored } = Tests::of(program)?;
        for name in names {
            let reason = ignored.get(&name);
            let lacks = |reason: &String| missing.iter().find(|need| need.is_in(reason));
            match reason.and_then(lacks) {
                _ if options.fast && reason.is_some() => self.left_out.add_one_in_a_hurry(),
                Some(need) => self.left_out.add(need, &program.name),
                None => self.tests.push(Test { program: Arc::clone(program), name }),
            }
        }
        Ok(())
    }
}
