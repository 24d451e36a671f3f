//! The bucket of tokens that stops retries.

use callboard_core::RetryThrottling;
use loom::thread::spawn;

use super::check;
use crate::control::throttle;
use crate::sync::Arc;

/// Each failure takes a token and each success gives its part back, whoever does it at the same time.
pub fn no_token_is_lost() {
    check(4, || {
        // Four tokens: the third failure finds that no more than half are left, wherever the success falls.
        let bucket = throttle(RetryThrottling::new(4.0, 1.0));
        assert!(bucket.failed(), "three are left");
        let others = [true, false].map(|fails| {
            let bucket = Arc::clone(&bucket);
            spawn(move || match fails {
                true => _ = bucket.failed(),
                false => bucket.succeeded(),
            })
        });
        bucket.failed();
        others.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
        // 4 - 3 + 1 = 2, and one less is 1.
        assert!(!bucket.failed());
        bucket.succeeded();
        bucket.succeeded();
        assert!(!bucket.failed(), "it holds 3 before and 2 after");
        bucket.succeeded();
        bucket.succeeded();
        assert!(bucket.failed(), "it holds 4 before and 3 after");
    });
}
