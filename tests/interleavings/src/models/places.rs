//! The places of connections, and the calls that wait for them.

use loom::thread::{JoinHandle, spawn};
use real_std::future::poll_fn;

use super::check;
use crate::executor::block_on;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::task::{Context, Poll, Waker};
use crate::transport::{Connection, Slot, Turn, Wait, give_up};

/// Waits for a place on any of these, and says on which it is.
fn place(turn: u64, at: &[&Arc<Connection>]) -> (usize, Slot) {
    let mut wait = begin(turn, at);
    block_on(poll_fn(|cx| wait.poll(cx))).expect("nobody gives its turn up")
}

fn begin(turn: u64, at: &[&Arc<Connection>]) -> Wait {
    Wait::begin(&Turn::new(turn), at.iter().copied().map(Arc::clone).collect())
}

/// Looks once whether it was given a place.
fn look(wait: &mut Wait) -> Option<(usize, Slot)> {
    match wait.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(given) => given,
        Poll::Pending => None,
    }
}

/// None of its places is taken, and one can be had at once: nobody waits.
fn assert_free(connection: &Arc<Connection>) {
    assert_eq!(connection.used(), 0, "a place is lost");
    assert!(connection.try_reserve().is_some(), "nobody waits");
}

/// A thread that lets a place go.
fn dropping(slot: impl Sized + Send + 'static) -> JoinHandle<()> {
    spawn(move || drop(slot))
}

fn join<T>(threads: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
}

/// A place that becomes free while a call begins to wait is given to it.
pub fn a_place_that_becomes_free_reaches_who_waits() {
    check(4, || {
        let connection = Connection::new(1);
        let leaves = dropping(connection.try_reserve().expect("its only place"));
        drop(place(1, &[&connection]));
        join([leaves]);
        assert_free(&connection);
    });
}

/// Two places become free at once, and two calls wait: nobody is forgotten.
pub fn each_place_that_becomes_free_reaches_somebody() {
    check(2, || {
        let connection = Connection::new(2);
        let leave = dropping([(); 2].map(|()| connection.try_reserve().expect("a place")));
        let waits = {
            let connection = Arc::clone(&connection);
            spawn(move || place(2, &[&connection]))
        };
        let first = place(1, &[&connection]);
        let second = join([waits]);
        join([leave]);
        assert_eq!(connection.used(), 2);
        drop((first, second));
        assert_free(&connection);
    });
}

/// A call is given a place and dropped at that moment: the next one gets it.
pub fn a_place_given_to_who_is_dropped_goes_to_the_next() {
    check(3, || {
        let connection = Connection::new(1);
        let taken = connection.try_reserve().expect("its only place");
        let gone = begin(1, &[&connection]);
        let gives_up = dropping(gone);
        let leaves = dropping(taken);
        drop(place(2, &[&connection]));
        join([gives_up, leaves]);
        assert_free(&connection);
    });
}

/// A call has given its turn up when its place comes, although it still stands in the queue: the next one gets it.
pub fn a_place_given_to_who_has_given_up_goes_to_the_next() {
    check(3, || {
        let connection = Connection::new(1);
        let taken = connection.try_reserve().expect("its only place");
        let turn = Turn::new(1);
        let mut gone = Wait::begin(&turn, vec![Arc::clone(&connection)]);
        let gives_up = spawn(move || give_up(&turn));
        let leaves = dropping(taken);
        drop(place(2, &[&connection]));
        join([gives_up, leaves]);
        assert!(look(&mut gone).is_none(), "its turn is over");
        assert_free(&connection);
    });
}

/// A call waits at two connections, and both have a place at the same moment: it takes one, and the other one is free for
/// the next.
pub fn who_waits_at_two_takes_one_and_leaves_the_other() {
    check(3, || {
        let (here, there) = (Connection::new(1), Connection::new(1));
        let leave = [&here, &there].map(|connection| dropping(connection.try_reserve().expect("its only place")));
        let (_, given) = place(1, &[&here, &there]);
        let (_, next) = place(2, &[&here, &there]);
        assert_eq!((here.used(), there.used()), (1, 1));
        join(leave);
        drop((given, next));
        assert_free(&here);
        assert_free(&there);
    });
}

/// A call that waits elsewhere from now on is given nothing of where it waited before, and loses no place there.
pub fn who_has_moved_on_is_given_nothing_of_before() {
    check(4, || {
        let (before, now) = (Connection::new(1), Connection::new(1));
        let _taken = now.try_reserve().expect("its only place");
        let leaves = dropping(before.try_reserve().expect("its only place"));
        let turn = Turn::new(1);
        drop(Wait::begin(&turn, vec![Arc::clone(&now), Arc::clone(&before)]));
        let mut wait = Wait::begin(&turn, vec![Arc::clone(&now)]);
        assert!(look(&mut wait).is_none(), "all is taken where it waits");
        join([leaves]);
        assert!(look(&mut wait).is_none(), "all is taken where it waits");
        assert_free(&before);
    });
}

/// Whoever waits longest is given the place, and who comes new does not get in before.
pub fn places_are_given_in_turn() {
    check(4, || {
        let connection = Connection::new(1);
        let taken = connection.try_reserve().expect("its only place");
        let mut first = begin(1, &[&connection]);
        let later = {
            let connection = Arc::clone(&connection);
            spawn(move || {
                assert!(connection.try_reserve().is_none(), "somebody waits, or has the place");
                let mut second = begin(2, &[&connection]);
                assert!(look(&mut second).is_none(), "the first has not had it yet");
            })
        };
        drop(taken);
        join([later]);
        let given = look(&mut first);
        assert!(given.is_some(), "the place is free, and it was the first");
    });
}

/// The peer allows more while a call begins to wait: it is told.
pub fn who_waits_is_told_when_the_peer_allows_more() {
    check(4, || {
        let connection = Connection::new(0);
        let allows = {
            let connection = Arc::clone(&connection);
            spawn(move || connection.allow(1))
        };
        drop(place(1, &[&connection]));
        join([allows]);
        assert_free(&connection);
    });
}

/// However many come and go at once, by whichever way, there are never more than there are places.
pub fn there_are_never_more_than_places() {
    /// How many are there now.
    fn stay(inside: &AtomicUsize, slot: Slot) {
        assert_eq!(inside.fetch_add(1, Ordering::Relaxed), 0, "two are in one place");
        inside.fetch_sub(1, Ordering::Relaxed);
        drop(slot);
    }
    check(4, || {
        let (connection, inside) = (Connection::new(1), Arc::new(AtomicUsize::new(0)));
        let comes = |_| {
            let (connection, inside) = (Arc::clone(&connection), Arc::clone(&inside));
            spawn(move || connection.try_reserve().into_iter().for_each(|slot| stay(&inside, slot)))
        };
        let come = [0, 1].map(comes);
        stay(&inside, place(1, &[&connection]).1);
        join(come);
        assert_free(&connection);
    });
}

/// A connection that closes gives no place any more, and who waits there can go.
pub fn nothing_is_given_on_a_connection_that_is_closed() {
    check(4, || {
        let connection = Connection::new(1);
        let leaves = dropping(connection.try_reserve().expect("its only place"));
        connection.close();
        let mut wait = begin(1, &[&connection]);
        join([leaves]);
        assert!(look(&mut wait).is_none() && connection.try_reserve().is_none(), "it is closed");
        drop(wait);
        assert_eq!(connection.used(), 0, "a place is lost");
    });
}
