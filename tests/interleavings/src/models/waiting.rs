//! How many calls may wait.

use loom::thread::spawn;
use real_std::future::poll_fn;

use super::check;
use crate::executor::block_on;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::waiting::Waiting;

async fn room(waiting: &Waiting) {
    let mut room = None;
    poll_fn(|cx| waiting.poll_room(&mut room, cx)).await;
}

/// Not more wait at once than may.
pub fn there_are_never_more_than_may_wait() {
    check(3, || {
        let (waiting, inside) = (Arc::new(Waiting::new(Some(1))), Arc::new(AtomicUsize::new(0)));
        let comes = |_| {
            let (waiting, inside) = (Arc::clone(&waiting), Arc::clone(&inside));
            spawn(move || {
                if let Some(_waiter) = waiting.begin() {
                    assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "two wait, and one may");
                    inside.fetch_sub(1, Ordering::Relaxed);
                }
            })
        };
        [0, 1, 2].map(comes).into_iter().for_each(|thread| thread.join().expect("no thread panics"));
        assert_eq!(waiting.count(), 0);
    });
}

/// Everybody who waits for room hears of it, also if it comes while they begin to.
pub fn who_waits_for_room_hears_of_it() {
    check(3, || {
        let waiting = Arc::new(Waiting::new(Some(1)));
        let waits = [(); 2].map(|()| {
            let waiting = Arc::clone(&waiting);
            spawn(move || block_on(room(&waiting)))
        });
        drop(waiting.begin());
        waits.into_iter().for_each(|thread| thread.join().expect("no thread panics"));
    });
}
