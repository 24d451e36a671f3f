//! Room for others, in work whose length others choose.

use std::future::pending;
use std::panic::resume_unwind;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::{spawn_blocking, yield_now};

/// How long work goes on without a break.
const LONGEST: Duration = Duration::from_millis(5);

/// Breaks in work that may be long because a registry holds much, such as the reading of 100,000 records: whatever else
/// runs on the thread gets its turn every few milliseconds.
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
    /// How much has been done since the clock was looked at.
    done: u8,
}

impl Breaks {
    /// Work begins.
    #[expect(clippy::new_without_default, reason = "it is a moment")]
    pub fn new() -> Self {
        Self { begun: Instant::now(), done: 0 }
    }

    /// Called once for each piece of work, of which 16 take less than a millisecond: lets others go on if 5 ms have passed
    /// since they last could.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn take(&mut self) {
        self.done = (self.done + 1) % 16;
        if self.done == 0 && self.begun.elapsed() >= LONGEST {
            self.now().await;
        }
    }

    /// Lets others go on in any case: before and after a piece of work that cannot be broken.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn now(&mut self) {
        yield_now().await;
        self.begun = Instant::now();
    }
}

/// Does work that cannot be broken, such as the parsing of a list of 100,000 instances: beside the runtime's own threads if
/// there is `much` of it, and here and now otherwise. If this is dropped, the work goes on to its end.
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
            // The runtime ends, and with it whoever waits.
            Err(_) => pending().await,
        },
    }
}

/// Drops a value beside the runtime's own threads: for maps and lists so long, such as of 100,000 instances, that to free
/// them takes longer than others should wait for their turn. Outside a runtime it is dropped at once.
pub fn drop_aside(value: impl Send + 'static) {
    if let Ok(runtime) = Handle::try_current() {
        drop(runtime.spawn_blocking(move || drop(value)));
    }
}
