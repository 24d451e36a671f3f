//! What the channel's task tells its calls.

use loom::thread::spawn;
use real_std::future::poll_fn;

use super::check;
use crate::control::{Published, Since};
use crate::executor::block_on;
use crate::pin::pin;
use crate::publication::Publication;
use crate::sync::Arc;
use crate::task::Poll;
use crate::transport::{Connection, Slot, Turn, Wait};

/// That these can be called, and whether no config says anything.
fn published(connection: Option<&Arc<Connection>>, unruled: bool, since: Since) -> Published {
    Published { connection: connection.map(Arc::clone), unruled, since }
}

fn nobody() -> Arc<Publication> {
    Arc::new(Publication::new(published(None, true, Since::Alike)))
}

/// Waits for an endpoint, as a call does.
async fn endpoint(publication: &Publication) -> Arc<Connection> {
    loop {
        let (ready, news) = publication.look(|published| published.connection.clone());
        match ready {
            Some(connection) => return connection,
            None => news.changed.await,
        }
    }
}

/// Waits for a place at the endpoint that there is, as a call does: until it has one or there is another endpoint.
async fn place(publication: &Publication, turn: &Arc<Turn>) -> Slot {
    loop {
        let (connection, news) = publication.look(|published| published.connection.clone().expect("an endpoint"));
        if let Some(slot) = connection.try_reserve() {
            return slot;
        }
        let (mut wait, mut moved) = (Wait::begin(turn, vec![connection]), pin!(news.moved));
        let given = poll_fn(|cx| match moved.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => wait.poll(cx),
        });
        if let Some((_, slot)) = given.await {
            return slot;
        }
    }
}

/// A call that has found nobody ready is woken by the publication that somebody is, whether more is published or not.
pub fn who_waits_for_an_endpoint_hears_of_it() {
    check(3, || {
        let publication = nobody();
        let task = {
            let publication = Arc::clone(&publication);
            spawn(move || {
                let connection = Connection::new(1);
                publication.publish(published(None, true, Since::Renewed));
                publication.publish(published(Some(&connection), true, Since::Moved));
                publication.publish(published(Some(&connection), true, Since::Alike));
            })
        };
        block_on(endpoint(&publication));
        task.join().expect("no thread panics");
    });
}

/// All calls that wait are woken.
pub fn everybody_who_waits_for_an_endpoint_hears_of_it() {
    check(2, || {
        let publication = nobody();
        let waits = [(); 2].map(|()| {
            let publication = Arc::clone(&publication);
            spawn(move || drop(block_on(endpoint(&publication))))
        });
        publication.publish(published(Some(&Connection::new(1)), true, Since::Moved));
        waits.into_iter().for_each(|wait| wait.join().expect("no thread panics"));
    });
}

/// A call waits for a place on a connection that closes: it gets one on that which is published next, or has one before. No
/// place is lost.
pub fn who_waits_for_a_place_goes_where_the_connection_is_that_follows() {
    check(2, || {
        let (old, new) = (Connection::new(1), Connection::new(1));
        let taken = old.try_reserve().expect("its only place");
        let publication = Arc::new(Publication::new(published(Some(&old), true, Since::Alike)));
        let task = {
            let (publication, old, new) = (Arc::clone(&publication), Arc::clone(&old), Arc::clone(&new));
            spawn(move || {
                old.close();
                publication.publish(published(Some(&new), true, Since::Moved));
            })
        };
        let leaves = spawn(move || drop(taken));
        let slot = block_on(place(&publication, &Turn::new(1)));
        for thread in [task, leaves] {
            thread.join().expect("no thread panics");
        }
        assert_eq!(old.used() + new.used(), 1);
        drop(slot);
        assert_eq!((old.used(), new.used()), (0, 0));
    });
}

/// Who wants to know of anything hears of what is no news for calls.
pub fn who_wants_to_know_of_anything_does() {
    check(3, || {
        let publication = nobody();
        let task = {
            let publication = Arc::clone(&publication);
            spawn(move || publication.publish(published(Some(&Connection::new(1)), true, Since::Alike)))
        };
        block_on(async {
            loop {
                let (ready, news) = publication.look(|published| published.connection.is_some());
                match ready {
                    true => return,
                    false => news.anything.await,
                }
            }
        });
        task.join().expect("no thread panics");
    });
}

/// Who has seen that a config says something of calls is not told any more that none does.
pub fn who_sees_a_config_is_not_told_that_there_is_none() {
    check(4, || {
        let publication = nobody();
        let task = {
            let publication = Arc::clone(&publication);
            spawn(move || publication.publish(published(None, false, Since::Renewed)))
        };
        if !publication.now().is_unruled() {
            assert!(!publication.is_unruled(), "a call that begins now would not ask what the config says");
        }
        task.join().expect("no thread panics");
    });
}
