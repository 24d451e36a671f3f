//! How often Consul is asked.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Bounds the queries of one watch: ten in a row, and five in a second in the long run. So an agent that answers at
/// once again and again is not asked without a pause.
#[derive(Debug)]
pub(crate) struct RateLimit {
    /// When the bucket is full. Each query takes 200 ms of it, up to two seconds ahead.
    full: Instant,
}

const EACH: Duration = Duration::from_millis(200);
const AHEAD: Duration = Duration::from_secs(2);

impl RateLimit {
    pub(crate) fn new() -> Self {
        Self { full: Instant::now() }
    }

    /// Waits until the next query may be sent.
    pub(crate) async fn next(&mut self) {
        let full = self.full.max(Instant::now()) + EACH;
        self.full = full;
        if let Some(from) = full.checked_sub(AHEAD)
            && from > Instant::now()
        {
            sleep_until(from).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ten_queries_in_a_row_and_then_five_in_a_second() {
        let (mut pace, begun) = (RateLimit::new(), Instant::now());
        for _ in 0..10 {
            pace.next().await;
        }
        assert_eq!(begun.elapsed(), Duration::ZERO);
        for _ in 0..50 {
            pace.next().await;
        }
        assert!((9_900..=10_200).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_secs(60)).await;
        let rested = Instant::now();
        for _ in 0..10 {
            pace.next().await;
        }
        assert_eq!(rested.elapsed(), Duration::ZERO);
    }
}
