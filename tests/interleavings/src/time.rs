//! What the pieces take from `tokio::time`: a clock that goes on when a model says so.

pub(crate) use real_std::time::Duration;

use crate::pin::Pin;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::task::{Context, Poll, Waker};

loom::lazy_static! {
    /// Each execution of a model begins with a new one.
    static ref CLOCK: Clock = Clock::default();
}

#[derive(Default)]
struct Clock {
    now: AtomicU64,
    sleepers: Mutex<Vec<(Instant, Waker)>>,
}

/// How often the clock has gone on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant(u64);

impl Instant {
    pub(crate) fn now() -> Self {
        Self(CLOCK.now.load(Ordering::Acquire))
    }

    /// When the clock will have gone on once more.
    pub(crate) fn next() -> Self {
        Self(Self::now().0 + 1)
    }
}

/// The clock goes on: whoever sleeps until then is woken.
pub(crate) fn go_on() {
    let due: Vec<_> = {
        let mut sleepers = CLOCK.sleepers.lock().expect("nothing panics under this lock");
        CLOCK.now.fetch_add(1, Ordering::AcqRel);
        let now = Instant::now();
        sleepers.extract_if(.., |(at, _)| *at <= now).collect()
    };
    due.into_iter().for_each(|(_, waker)| waker.wake());
}

/// Resolves when the moment has come.
#[derive(Debug)]
pub(crate) struct Sleep(Instant);

pub(crate) fn sleep_until(at: Instant) -> Sleep {
    Sleep(at)
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut sleepers = CLOCK.sleepers.lock().expect("nothing panics under this lock");
        if self.0 <= Instant::now() {
            return Poll::Ready(());
        }
        sleepers.push((self.0, cx.waker().clone()));
        Poll::Pending
    }
}
