//! What this crate promises, held with real servers and real processes.

mod endings;
mod faults;
mod program;
mod setups;
mod stores;

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// On a machine that has much else to do.
const LIMIT: Duration = Duration::from_secs(60);

/// What is expected of a server that is ready.
const ANSWERS: &str = "it answers";

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {LIMIT:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
