//! What ends when a call's time is up.

use loom::thread::spawn;
use real_std::future::poll_fn;

use super::check;
use crate::executor::block_on;
use crate::runtime::Runtime;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::task::Poll;
use crate::time::{Duration, Instant, go_on};
use crate::transport::{Connection, Expiry, Slot, Turn, Wait, end, hold};

/// The deadline of a call, which comes when the clock goes on.
fn deadline() -> Arc<Expiry> {
    let expiry = Expiry::new(Instant::next(), Duration::from_secs(1), &Arc::new(Runtime));
    assert!(expiry.given() > Duration::ZERO && expiry.at() > Instant::now(), "it has time");
    expiry
}

/// Awaits something until the deadline, as a call does.
fn until<T>(expiry: &Arc<Expiry>, mut work: impl FnMut(&mut crate::task::Context<'_>) -> Poll<T>) -> Option<T> {
    let mut timer = None;
    block_on(poll_fn(|cx| match work(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => {
            expiry.register(cx.waker());
            expiry.poll(&mut timer).map(|()| None)
        }
    }))
}

/// The deadline is armed, by who does not look whether it has come.
fn arm(expiry: &Arc<Expiry>) -> impl Sized {
    let mut timer = None;
    let _ = expiry.poll(&mut timer);
    timer
}

fn only_place(connection: &Arc<Connection>) -> Slot {
    connection.try_reserve().expect("its only place")
}

/// A call that waits for nothing else is woken when its time is up, also if that is while it is polled.
pub fn who_awaits_a_call_is_woken_at_its_deadline() {
    check(4, || {
        let (expiry, clock) = (deadline(), spawn(go_on));
        assert!(until(&expiry, |_| Poll::<()>::Pending).is_none());
        assert!(expiry.is_over());
        clock.join().expect("no thread panics");
    });
}

/// A call waits for its turn until its time is up, which may be when it is given its place: it has that, or the next one
/// gets it.
pub fn a_place_that_comes_at_the_deadline_is_used_or_goes_to_the_next() {
    check(3, || {
        let connection = Connection::new(1);
        let (taken, expiry, turn) = (only_place(&connection), deadline(), Turn::new(1));
        expiry.wait(&turn);
        let mut wait = Wait::begin(&turn, vec![Arc::clone(&connection)]);
        let leaves = spawn(move || drop(taken));
        let clock = spawn(go_on);
        let given = until(&expiry, |cx| match wait.poll(cx) {
            Poll::Ready(Some(given)) => Poll::Ready(given),
            // The deadline has taken its turn, and is to say so.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        });
        assert!(given.is_some() || expiry.is_over());
        drop((given, wait));
        for thread in [leaves, clock] {
            thread.join().expect("no thread panics");
        }
        drop(only_place(&connection));
        assert_eq!(connection.used(), 0);
    });
}

/// The same of a call that nobody polls any more: it is still there, and has no place.
pub fn a_place_that_comes_for_who_is_not_polled_goes_to_the_next_at_the_deadline() {
    check(2, || {
        let connection = Connection::new(1);
        let (taken, expiry, turn) = (only_place(&connection), deadline(), Turn::new(1));
        let wait = Wait::begin(&turn, vec![Arc::clone(&connection)]);
        let leaves = spawn(move || drop(taken));
        let clock = spawn(go_on);
        expiry.wait(&turn);
        let _timer = arm(&expiry);
        for thread in [leaves, clock] {
            thread.join().expect("no thread panics");
        }
        drop(only_place(&connection));
        drop(wait);
        assert_eq!(connection.used(), 0);
    });
}

/// A call keeps a place while it waits for something else: at its deadline that is free, unless it was taken back before.
pub fn a_place_that_is_kept_is_free_at_the_deadline_or_taken_back() {
    check(4, || {
        let (connection, expiry) = (Connection::new(1), deadline());
        expiry.keep(only_place(&connection));
        let clock = spawn(go_on);
        let _timer = arm(&expiry);
        let back = expiry.take_back();
        let kept = back.is_some();
        assert!(kept || expiry.is_over(), "it is kept until the deadline");
        clock.join().expect("no thread panics");
        assert_eq!(connection.used(), usize::from(kept), "it is here, or free");
        drop(back);
        drop(only_place(&connection));
    });
}

/// A stream ends at its deadline or by its holder, once, also if the deadline comes before it is held.
pub fn a_stream_ends_once_at_its_deadline_or_before() {
    check(4, || {
        let (connection, expiry) = (Connection::new(1), deadline());
        let expired = Arc::new(AtomicUsize::new(0));
        let clock = spawn(go_on);
        let _timer = arm(&expiry);
        hold(&expiry, only_place(&connection), &expired);
        let ended_here = usize::from(end(&expiry));
        assert!(ended_here == 1 || expiry.is_over(), "it is held until the deadline");
        clock.join().expect("no thread panics");
        assert_eq!(ended_here + expired.load(Ordering::Relaxed), 1, "it ends once");
        drop(only_place(&connection));
    });
}

/// A stream ends at its deadline although nobody polls the call, also if the deadline comes while it is armed.
pub fn a_stream_that_nobody_polls_ends_at_its_deadline() {
    unpolled(false);
}

/// The same where the deadline was armed before, and may have come before there is a stream.
pub fn a_stream_that_begins_at_the_deadline_ends_though_nobody_polls() {
    unpolled(true);
}

fn unpolled(armed_before: bool) {
    check(4, move || {
        let (connection, expiry) = (Connection::new(1), deadline());
        let expired = Arc::new(AtomicUsize::new(0));
        let clock = spawn(go_on);
        let before = armed_before.then(|| arm(&expiry));
        hold(&expiry, only_place(&connection), &expired);
        let after = (!armed_before).then(|| arm(&expiry));
        clock.join().expect("no thread panics");
        assert_eq!(expired.load(Ordering::Relaxed), 1, "its time is up");
        drop(only_place(&connection));
        drop((before, after));
    });
}
