//! What a server knows of its load.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use callboard_core::LoadReport;

use super::window::{Ended, Window};

/// How long the window is, unless something else is said.
const WINDOW: Duration = Duration::from_secs(5);

/// Measures the load of this process, and takes what the application knows of it. Clones are one recorder.
///
/// Give it to a [`LoadReportLayer`](super::LoadReportLayer), which counts requests and puts a report into each response,
/// and to a [`LoadReportServer`](super::LoadReportServer), for clients that ask for reports out of band.
///
/// | figure | is |
/// |---|---|
/// | `cpu_utilization` | what this process used of the CPU, plus what it waited for a CPU while others had it, divided by what it could have had: what it used, what nobody did, and a tenth of what others did |
/// | `rps_fractional` | requests that ended, per second |
/// | `eps` | those of them that ended with an error of the server's: `UNKNOWN`, `DEADLINE_EXCEEDED`, `UNIMPLEMENTED`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS` |
/// | all others | what the application [sets](Self::set) |
///
/// They are over the last 5 s, unless [`with_window`](Self::with_window) says otherwise, or over the time since the last
/// report if that is longer.
///
/// So a busy neighbour on the same CPUs counts (why it is measured so: `docs/decisions/cpu-utilisation.md`), and so does a limit of the container that throttles. On Linux, that is
/// read from `/proc`; elsewhere the CPU is what the process used of as many CPUs as it may have. A process that has a
/// better measure of what bounds it sets `application_utilization`, which comes first.
///
/// ```
/// let recorder = callboard_protocols::orca::LoadRecorder::new();
/// recorder.set(|report| {
///     report.application_utilization = 0.4; // of its worker slots, say
///     report.named_metrics.insert("queue".to_owned(), 17.0);
/// });
/// assert_eq!(recorder.report().application_utilization, 0.4);
/// ```
#[derive(Clone)]
pub struct LoadRecorder(Arc<Inner>);

struct Inner {
    requests: AtomicU64,
    errors: AtomicU64,
    window: Mutex<Window>,
    set: Mutex<LoadReport>,
}

impl LoadRecorder {
    /// A recorder with a window of 5 s, which begins now.
    pub fn new() -> Self {
        Self::with_window(WINDOW)
    }

    /// A recorder whose figures are over so long. A short one follows faster, a long one is steadier. The system is read
    /// every tenth of it.
    pub fn with_window(length: Duration) -> Self {
        Self(Arc::new(Inner {
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            window: Mutex::new(Window::new(length)),
            set: Mutex::default(),
        }))
    }

    /// Changes what the application says itself. It stays until it is changed again. A figure that would be measured and
    /// that is set to something else than 0 is reported as it was set.
    pub fn set(&self, change: impl FnOnce(&mut LoadReport)) {
        change(&mut self.0.set.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Notes that a request has ended, with an error of the server's or not. The layer does it; this is for servers
    /// without it.
    pub fn note_request(&self, error: bool) {
        // In this order, and read in the other one: there are never more errors than requests.
        self.0.requests.fetch_add(1, Ordering::SeqCst);
        if error {
            self.0.errors.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Requests and errors that were noted, ever.
    #[cfg(test)]
    pub(super) fn counted(&self) -> (u64, u64) {
        (self.0.requests.load(Ordering::SeqCst), self.0.errors.load(Ordering::SeqCst))
    }

    /// The load as it is now.
    pub fn report(&self) -> LoadReport {
        let with_error = self.0.errors.load(Ordering::SeqCst);
        let ended = Ended { all: self.0.requests.load(Ordering::SeqCst), with_error };
        let figures = self.0.window.lock().unwrap_or_else(PoisonError::into_inner).figures(ended, Instant::now());
        let mut report = self.0.set.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let measured = [
            (&mut report.rps_fractional, figures.rps),
            (&mut report.eps, figures.eps),
            (&mut report.cpu_utilization, figures.cpu),
        ];
        for (figure, measured) in measured {
            if *figure == 0.0 {
                *figure = measured;
            }
        }
        report
    }
}

impl Default for LoadRecorder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for LoadRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadRecorder").field("requests", &self.0.requests).finish_non_exhaustive()
    }
}
