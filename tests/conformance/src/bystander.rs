//! What work costs whoever else is on its thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// A task that wants a turn every millisecond, on a runtime of one thread.
#[derive(Debug)]
pub struct Bystander {
    /// In microseconds.
    longest: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Bystander {
    /// Begins to want turns.
    #[expect(clippy::new_without_default, reason = "it is a task")]
    pub fn new() -> Self {
        let longest = Arc::<AtomicU64>::default();
        let noted = Arc::clone(&longest);
        let task = tokio::spawn(async move {
            loop {
                let begun = worked();
                sleep(Duration::from_millis(1)).await;
                noted.fetch_max((worked() - begun).as_micros() as u64, Relaxed);
            }
        });
        Self { longest, task }
    }

    /// For how long the thread has worked at most without a turn for this, since this was asked last. What others on a busy
    /// machine take from the thread does not count.
    pub fn longest_wait(&self) -> Duration {
        Duration::from_micros(self.longest.swap(0, Relaxed))
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How long this thread has worked.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
