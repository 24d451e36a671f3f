//! Lets other tasks run during long work.

use std::future::pending;
use std::panic::resume_unwind;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::{spawn_blocking, yield_now};

/// How long work goes on without a break.
const LONGEST: Duration = Duration::from_millis(5);

/// Breaks in work that may be long because a registry holds much, such as the reading of 100,000 records. Other tasks on
/// the thread run every few milliseconds.
///
/// ```
/// # async fn example(records: Vec<Vec<u8>>) {
/// let mut breaks = callboard_core::Breaks::new();
/// for record in records {
///     breaks.take().await;
///     let _ = callboard_core::decode(&record);
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Breaks {
    begun: Instant,
    /// How many pieces were done since the clock was read.
    done: u8,
}

impl Breaks {
    /// Starts the time of the first piece of work.
    #[expect(clippy::new_without_default, reason = "it is a moment")]
    pub fn new() -> Self {
        Self { begun: Instant::now(), done: 0 }
    }

    /// Called once for each piece of work, of which 16 must take less than a millisecond. Lets other tasks run if 5 ms have
    /// passed since they last could.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn take(&mut self) {
        self.done = (self.done + 1) % 16;
        if self.done == 0 && self.begun.elapsed() >= LONGEST {
            self.now().await;
        }
    }

    /// Lets other tasks run in any case: before and after a piece of work that cannot be divided.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn now(&mut self) {
        yield_now().await;
        self.begun = Instant::now();
    }
}

/// Does work that cannot be divided, such as the parsing of a list of 100,000 instances. If there is `much` of it, it runs
/// on a thread for blocking work, otherwise in place. If this is dropped, the work goes on to its end.
///
/// # Panics
/// If there is much and this is not within a tokio runtime; and as the work does.
pub async fn aside<T: Send + 'static>(much: bool, work: impl FnOnce() -> T + Send + 'static) -> T {
    if !much {
        return work();
    }
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // The runtime is shutting down, and this task with it.
            Err(_) => pending().await,
        },
    }
}

/// Drops a value on a thread for blocking work: for maps and lists, such as of 100,000 instances, that take so long to free
/// that other tasks would be delayed. Outside a runtime it is dropped at once.
pub fn drop_aside(value: impl Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        drop(runtime.spawn_blocking(move || drop(value)));
    }
}
