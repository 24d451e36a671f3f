//! The recorder of a server's load.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use callboard_core::LoadReport;

use super::window::{Ended, Window};

/// The default length of the window.
const WINDOW: Duration = Duration::from_secs(5);

/// Measures the load of this process, and takes the application's own figures. Clones share one recorder.
///
/// Pass it to a [`LoadReportLayer`](super::LoadReportLayer), which counts requests and adds a report to each response,
/// and to a [`LoadReportServer`](super::LoadReportServer), for clients that ask for out-of-band reports.
///
/// | figure | is |
/// |---|---|
/// | `cpu_utilization` | the CPU time that this process used or waited for, divided by what it could have had: what it used, what was idle, and a tenth of what others used |
/// | `rps_fractional` | requests that ended, per second |
/// | `eps` | those of them that ended with a server error: `UNKNOWN`, `DEADLINE_EXCEEDED`, `UNIMPLEMENTED`, `INTERNAL`, `UNAVAILABLE`, `DATA_LOSS` |
/// | all others | what the application [sets](Self::set) |
///
/// The figures cover the last 5 s, unless [`with_window`](Self::with_window) sets another time, or the time since the
/// last report if that is longer.
///
/// So the utilisation includes busy neighbours on the same CPUs, and throttling by the container's limit.
/// `docs/decisions/cpu-utilisation.md` says why. On Linux the times are read from `/proc`; elsewhere, the figure is
/// what the process used of all the CPUs that it may have. A process with a better measure of its load sets
/// `application_utilization`, which comes first.
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
    /// Makes a recorder with a window of 5 s, which begins now.
    pub fn new() -> Self {
        Self::with_window(WINDOW)
    }

    /// Makes a recorder with a window of this length. A short one follows changes faster, a long one is steadier. The
    /// system's figures are read every tenth of it.
    pub fn with_window(length: Duration) -> Self {
        Self(Arc::new(Inner {
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            window: Mutex::new(Window::new(length)),
            set: Mutex::default(),
        }))
    }

    /// Changes the application's own figures. They stay until they are changed again. A measured figure that is set to
    /// anything but 0 is reported as set.
    pub fn set(&self, change: impl FnOnce(&mut LoadReport)) {
        change(&mut self.0.set.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts a request that has ended, with a server error or without. The layer does this; call it in servers without
    /// the layer.
    pub fn note_request(&self, error: bool) {
        // Errors are written last and read first, so a report never has more errors than requests.
        self.0.requests.fetch_add(1, Ordering::SeqCst);
        if error {
            self.0.errors.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// All requests and errors counted so far.
    #[cfg(test)]
    pub(super) fn counted(&self) -> (u64, u64) {
        (self.0.requests.load(Ordering::SeqCst), self.0.errors.load(Ordering::SeqCst))
    }

    /// Returns the current load.
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
