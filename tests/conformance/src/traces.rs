//! What is left behind.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Harness;
use crate::company::{SOON, service, watcher};

/// A watch that is dropped leaves nothing on the server.
pub async fn a_dropped_watch_leaves_nothing(harness: &dyn Harness) {
    let service = service("project/test");
    let before = harness.watches().await;
    let watchers: Vec<_> = (0..10).map(|_| watcher(harness, &service)).collect();
    for watcher in &watchers {
        watcher.until_ids(SOON, "watching", &[]).await;
    }
    until_watches(harness, "while ten watch", |now| now >= before + 10).await;
    drop(watchers);
    until_watches(harness, "after all were dropped", |now| now <= before).await;
}

async fn until_watches(harness: &dyn Harness, when: &str, expected: impl Fn(usize) -> bool) {
    let give_up = Instant::now() + harness.bounds().notice + SOON;
    loop {
        let now = harness.watches().await;
        if expected(now) {
            return;
        }
        assert!(Instant::now() < give_up, "{when}: {now} watches");
        // A server cannot be asked to say when its count changes, so it is asked again.
        sleep(Duration::from_millis(50)).await;
    }
}
