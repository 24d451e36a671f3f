//! How often Consul is asked, and from which index on.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Bounds the queries of one watch: ten in a row, and five in a second in the long run. Whatever makes an agent answer
/// at once again and again, it is not asked without a pause.
#[derive(Debug)]
pub(crate) struct Pace {
    /// When the bucket is full. Each query takes 200 ms of it, up to two seconds ahead.
    full: Instant,
}

const EACH: Duration = Duration::from_millis(200);
const AHEAD: Duration = Duration::from_secs(2);

impl Pace {
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

/// The index of a blocking query: what the next one waits to see exceeded. 0 does not wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index(pub(crate) u64);

impl Index {
    /// Notes the index of an answer, and says whether the answer is news.
    ///
    /// An index that goes backwards (a server has lost its data) or is missing starts over with a query that does not
    /// wait.
    pub(crate) fn note(&mut self, said: Option<u64>) -> bool {
        let said = said.unwrap_or(0);
        let news = said != self.0 || said == 0;
        self.0 = if said < self.0 { 0 } else { said };
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_goes_backwards_or_is_missing_starts_over() {
        let mut index = Index::default();
        for (said, news, next) in [
            (Some(14), true, 14),
            (Some(14), false, 14),
            (Some(16), true, 16),
            (Some(5), true, 0),
            (Some(5), true, 5),
            (None, true, 0),
            (Some(0), true, 0),
            (Some(1), true, 1),
        ] {
            assert_eq!((index.note(said), index.0), (news, next), "{said:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ten_queries_in_a_row_and_then_five_in_a_second() {
        let (mut pace, begun) = (Pace::new(), Instant::now());
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
