//! CPU time. Unlike a wall clock, it does not see what else the machine does.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

/// What all threads of this process have used so far, in user and kernel mode: `getrusage`'s sum, to the nanosecond.
pub fn process() -> Duration {
    duration(clock_gettime(ClockId::ProcessCPUTime))
}

/// What this thread has used so far.
pub fn thread() -> Duration {
    duration(clock_gettime(ClockId::ThreadCPUTime))
}

fn duration(time: Timespec) -> Duration {
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
