//! How much this process uses of the CPU time that it could have.

use std::collections::HashMap;
use std::time::{Duration, Instant};
use std::{fs, thread};

use rustix::time::{ClockId, clock_gettime};

/// The unit of `/proc/stat`: a hundredth of a second, on every architecture that Linux runs on.
const TICK_MILLIS: u64 = 10;

/// The part of the CPU time of other processes that this one could have if it needed more. The true part depends on the
/// number and the priority of those, which the system does not tell. With 0, servers on busy machines could not be told
/// apart.
const TO_BE_WON: f64 = 0.1;

/// CPU time used, waited for and idle since some fixed time. Only differences are meaningful.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct CpuTimes {
    at: Instant,
    /// The CPU time of this process.
    used: Duration,
    /// The time for which threads of this process were ready to run, but had no CPU or none was granted.
    waited: Duration,
    /// The idle time of the CPUs that this process may run on. None where the system does not tell.
    idle: Option<Duration>,
    /// How many CPUs this process may use in all.
    cpus: f64,
}

/// Reads the times.
#[derive(Debug, Default)]
pub(super) struct CpuMeter {
    /// How long each thread has waited so far. A thread's figure is gone when it ends, so the sum is kept apart.
    threads: HashMap<String, Duration>,
    waited: Duration,
}

impl CpuMeter {
    pub(super) fn read(&mut self) -> CpuTimes {
        self.note_waits();
        let used = clock_gettime(ClockId::ProcessCPUTime);
        CpuTimes {
            at: Instant::now(),
            used: Duration::new(used.tv_sec.try_into().unwrap_or(0), used.tv_nsec.try_into().unwrap_or(0)),
            waited: self.waited,
            idle: idle(),
            cpus: thread::available_parallelism().map_or(1.0, |cpus| cpus.get() as f64),
        }
    }

    /// Adds the waits of the threads since the last time, as far as the system tells.
    fn note_waits(&mut self) {
        let Ok(threads) = fs::read_dir("/proc/self/task") else { return };
        let mut now = HashMap::new();
        for thread in threads.flatten() {
            let schedule = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
            if let Some(waited) = run_delay(&schedule) {
                let name = thread.file_name().to_string_lossy().into_owned();
                let before = self.threads.get(&name).copied().unwrap_or_default();
                self.waited += waited.saturating_sub(before);
                now.insert(name, waited);
            }
        }
        self.threads = now;
    }
}

impl CpuTimes {
    /// The utilisation between an earlier reading and this one: the time used and waited for, divided by the time that
    /// the process could have had. 0 if that is not known.
    pub(super) fn utilization_since(&self, earlier: &Self) -> f64 {
        let used = self.used.saturating_sub(earlier.used).as_secs_f64();
        let waited = self.waited.saturating_sub(earlier.waited).as_secs_f64();
        let most = self.at.saturating_duration_since(earlier.at).as_secs_f64() * self.cpus;
        let idle = self.idle.zip(earlier.idle).map(|(now, then)| now.saturating_sub(then).as_secs_f64());
        let left = idle.map_or(most, |idle| (used + idle).min(most));
        let available = left + TO_BE_WON * (most - left).max(0.0);
        let utilization = (used + waited) / available;
        if utilization.is_finite() { utilization } else { 0.0 }
    }
}

/// How long a thread has waited for a CPU: the second number in its `schedstat`.
fn run_delay(schedule: &str) -> Option<Duration> {
    Some(Duration::from_nanos(schedule.split_ascii_whitespace().nth(1)?.parse().ok()?))
}

/// How long the CPUs that this process may run on have been idle, all together.
fn idle() -> Option<Duration> {
    let allowed = allowed(&fs::read_to_string("/proc/self/status").ok()?)?;
    idle_of(&fs::read_to_string("/proc/stat").ok()?, |cpu| {
        allowed.iter().any(|(first, last)| (first..=last).contains(&&cpu))
    })
}

/// The CPUs that a process may run on, as ranges.
fn allowed(status: &str) -> Option<Vec<(u32, u32)>> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    list.trim().split(',').map(range).collect()
}

/// How long these CPUs have been idle, waiting for disks included. None if there is none of them.
fn idle_of(stat: &str, is_meant: impl Fn(u32) -> bool) -> Option<Duration> {
    let of_line = |line: &str| {
        // A line is `cpu7 user nice system idle iowait …`; the first one, with the totals, has no number.
        let mut fields = line.strip_prefix("cpu")?.split(' ');
        fields.next()?.parse().ok().filter(|cpu| is_meant(*cpu))?;
        Some(fields.skip(3).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>())
    };
    let ticks = stat.lines().filter_map(of_line).reduce(|sum, ticks| sum + ticks)?;
    Some(Duration::from_millis(ticks.saturating_mul(TICK_MILLIS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_tells_is_read_and_garbage_is_nothing() {
        let stat = "cpu  9 9 9 9 9\ncpu0 1 2 3 100 5 0\ncpu1 1 2 3 200 0\ncpu12 0 0 0 7\nintr 5\n";
        let idle = |cpus: &[u32]| idle_of(stat, |cpu| cpus.contains(&cpu)).map(|idle| idle.as_millis());
        assert_eq!([idle(&[0]), idle(&[1, 12]), idle(&[2])], [Some(1_050), Some(2_070), None]);
        assert_eq!(allowed("Name:\tx\nCpus_allowed_list:\t0-1,4\n"), Some(vec![(0, 1), (4, 4)]));
        assert_eq!([allowed("Cpus_allowed_list:\tx\n"), allowed("")], [None, None]);
        assert_eq!(run_delay("73520 42693 1\n"), Some(Duration::from_nanos(42_693)));
        assert_eq!([run_delay(""), run_delay("1 x 1")], [None, None]);
    }

    #[test]
    fn it_is_what_was_used_and_waited_for_of_what_was_to_be_had() {
        let begun = Instant::now();
        let times = |at, used, waited, idle: Option<u64>, cpus| CpuTimes {
            at: begun + Duration::from_millis(at),
            used: Duration::from_millis(used),
            waited: Duration::from_millis(waited),
            idle: idle.map(Duration::from_millis),
            cpus,
        };
        let zero = |cpus| times(0, 0, 0, Some(0), cpus);
        for (cpus, used, waited, idle, expected) in [
            (1.0, 250, 0, Some(750), 0.25),
            // Another process uses half of the CPU.
            (1.0, 250, 0, Some(250), 0.25 / 0.55),
            // Other processes use the rest, and this one waits for them.
            (1.0, 100, 300, Some(0), 0.4 / 0.19),
            // The process may use two of many CPUs.
            (2.0, 1_000, 0, Some(60_000), 0.5),
            (2.0, 500, 0, None, 0.25),
            (1.0, 0, 0, Some(0), 0.0),
        ] {
            let utilization = times(1_000, used, waited, idle, cpus).utilization_since(&zero(cpus));
            assert!((utilization - expected).abs() < 1e-9, "{utilization}, not {expected}");
        }
        assert_eq!(zero(1.0).utilization_since(&times(1_000, 5, 5, Some(5), 1.0)), 0.0, "time goes forward");
    }

    /// Real work of this process is measured, whatever else the machine does.
    #[test]
    fn work_of_this_process_is_seen() {
        let mut meter = CpuMeter::default();
        let before = meter.read();
        let mut rounds = 0_u64;
        while Instant::now() < before.at + Duration::from_millis(200) {
            rounds = std::hint::black_box(rounds + 1);
        }
        let after = meter.read();
        assert!(after.used > before.used);
        let utilization = after.utilization_since(&before);
        assert!(utilization > 0.0 && utilization.is_finite(), "{utilization}");
    }
}
