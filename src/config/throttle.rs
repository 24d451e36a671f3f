//! gRPC's retry throttling: a token bucket that stops retries while too many calls fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use callboard_core::RetryThrottling;

/// One token. gRPC counts in thousandths.
const TOKEN: u32 = 1_000;

/// gRPC's retry throttling, shared by all calls of a channel. It takes no lock.
#[derive(Debug)]
pub(crate) struct Throttle {
    says: RetryThrottling,
    most: u32,
    ratio: u32,
    /// The tokens that are left, in thousandths.
    left: AtomicU32,
}

impl Throttle {
    fn new(says: RetryThrottling) -> Self {
        let most = thousandths(says.max_tokens);
        Self { says, most, ratio: thousandths(says.token_ratio), left: AtomicU32::new(most) }
    }

    /// The bucket of a config. The former one is kept if its parameters are the same; else a full one is made, as in
    /// grpc-go.
    pub(crate) fn renewed(former: Option<&Arc<Self>>, says: RetryThrottling) -> Arc<Self> {
        let same = former.filter(|former| former.says == says);
        same.map_or_else(|| Arc::new(Self::new(says)), Arc::clone)
    }

    /// Notes a failure that could be retried. False if retries are throttled: no more than half of the tokens are left.
    pub(crate) fn failed(&self) -> bool {
        let take = |left: u32| Some(left.saturating_sub(TOKEN));
        let (Ok(before) | Err(before)) = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        before.saturating_sub(TOKEN) > self.most / 2
    }

    /// Notes a call that has succeeded.
    pub(crate) fn succeeded(&self) {
        // The bucket is nearly always full. Then threads only read it, which is cheap.
        let put = |left: u32| (left < self.most).then(|| (left + self.ratio).min(self.most));
        // An error means that it is full.
        let _ = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, put);
    }
}

/// In thousandths: at least one, at most gRPC's thousand tokens.
fn thousandths(tokens: f64) -> u32 {
    (tokens * f64::from(TOKEN)).round().max(1.0).min(f64::from(1_000 * TOKEN)) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// gRPC's definition, with exact numbers: thousandths.
    struct Model {
        most: i64,
        ratio: i64,
        left: i64,
    }

    impl Model {
        fn failed(&mut self) -> bool {
            self.left = (self.left - 1_000).max(0);
            2 * self.left > self.most
        }

        fn succeeded(&mut self) {
            self.left = (self.left + self.ratio).min(self.most);
        }
    }

    proptest! {
        #[test]
        fn the_bucket_is_as_in_grpcs_text(
            most in 1u32..=1_000_000,
            ratio in 1u32..2_000,
            calls in proptest::collection::vec(proptest::bool::weighted(0.6), 0..300),
        ) {
            let says = RetryThrottling::new(f64::from(most) / 1_000.0, f64::from(ratio) / 1_000.0);
            let bucket = Throttle::new(says);
            let mut model = Model { most: most.into(), ratio: ratio.into(), left: most.into() };
            for succeeds in calls {
                if succeeds {
                    bucket.succeeded();
                    model.succeeded();
                } else {
                    prop_assert_eq!(bucket.failed(), model.failed());
                }
                prop_assert_eq!(i64::from(bucket.left.load(Ordering::Relaxed)), model.left);
            }
        }
    }

    #[test]
    fn the_same_numbers_keep_the_level_and_others_start_anew() {
        let bucket = Throttle::renewed(None, RetryThrottling::new(4.0, 0.5));
        bucket.failed();
        let same = Throttle::renewed(Some(&bucket), RetryThrottling::new(4.0, 0.5));
        assert!(!same.failed(), "two of four are left");
        let other = Throttle::renewed(Some(&bucket), RetryThrottling::new(4.0, 0.6));
        assert!(other.failed(), "three of four are left");
    }

    #[test]
    fn threads_lose_no_token() {
        let bucket = Throttle::new(RetryThrottling::new(1_000.0, 0.001));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        bucket.failed();
                    }
                });
            }
        });
        assert_eq!(bucket.left.load(Ordering::Relaxed), 600 * TOKEN);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..100).for_each(|_| bucket.succeeded()));
            }
        });
        assert_eq!(bucket.left.load(Ordering::Relaxed), 600 * TOKEN + 400);
    }

    #[test]
    fn numbers_that_no_config_should_have_do_no_harm() {
        for odd in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300] {
            let bucket = Throttle::new(RetryThrottling::new(odd, odd));
            bucket.failed();
            bucket.succeeded();
            assert!((1..=1_000_000).contains(&bucket.most), "{odd}");
        }
    }
}
