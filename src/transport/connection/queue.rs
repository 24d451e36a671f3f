//! Calls that wait for a stream on a connection, in the order of their turns.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::Connection;
use super::slot::Slot;

/// One call's turn, on however many connections it waits. It is served by the first slot that becomes free.
pub(crate) struct Turn {
    /// Turns are taken in the order of their numbers.
    number: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    Waiting(Option<Waker>),
    /// It was given a slot: the index of the connection among those that it waits for, and the slot.
    Served(usize, Slot),
    /// It does not wait any more.
    Over,
}

impl Turn {
    /// A turn that comes after all turns of a lower number.
    pub(crate) fn new(number: u64) -> Arc<Self> {
        Arc::new(Self { number, state: Mutex::new(State::Waiting(None)) })
    }

    /// Gives up the turn, and the slot if it was given one. For a call that will not take it any more.
    pub(in crate::transport) fn give_up(&self) {
        // The slot is dropped after the lock is released: it is given to the next turn, whose lock is taken then.
        let former = std::mem::replace(&mut *lock(&self.state), State::Over);
        drop(former);
    }

    /// Ends the current wait. A slot that was given and not taken is given to the next turn.
    fn pause(&self) {
        let mut state = lock(&self.state);
        if matches!(*state, State::Over) {
            return;
        }
        let former = std::mem::replace(&mut *state, State::Waiting(None));
        drop(state);
        drop(former);
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<(usize, Slot)>> {
        let mut state = lock(&self.state);
        if let State::Waiting(waker) = &mut *state {
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                let former = waker.replace(cx.waker().clone());
                // Dropping a waker runs foreign code, so the lock is released first.
                drop(state);
                drop(former);
            }
            return Poll::Pending;
        }
        Poll::Ready(match std::mem::replace(&mut *state, State::Over) {
            State::Served(index, slot) => Some((index, slot)),
            _ => None,
        })
    }

    /// Gives it a slot that was reserved for it, and returns the waker to wake. None if it does not wait any more; then
    /// nothing was given.
    fn serve(&self, index: usize, connection: &Arc<Connection>) -> Option<Option<Waker>> {
        let mut state = lock(&self.state);
        let State::Waiting(waker) = &mut *state else { return None };
        let waker = waker.take();
        *state = State::Served(index, Slot::new(Arc::clone(connection)));
        Some(waker)
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("number", &self.number).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No change under these locks can be left half done by a panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The turns that wait for a slot on one connection. The lock is taken only while there are any.
#[derive(Debug, Default)]
pub(in crate::transport) struct Queue {
    waiting: AtomicUsize,
    turns: Mutex<BTreeMap<u64, Entry>>,
}

#[derive(Debug)]
struct Entry {
    turn: Arc<Turn>,
    /// The index of this connection among those that the turn waits for.
    index: usize,
    connection: Arc<Connection>,
}

impl Queue {
    /// Whether no turn waits. Takes no lock.
    pub(in crate::transport) fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0
    }

    fn put(&self, turn: &Arc<Turn>, index: usize, connection: &Arc<Connection>) {
        let entry = Entry { turn: Arc::clone(turn), index, connection: Arc::clone(connection) };
        let mut turns = lock(&self.turns);
        let former = turns.insert(turn.number, entry);
        self.waiting.store(turns.len(), Ordering::SeqCst);
        drop(turns);
        drop(former);
    }

    fn remove(&self, number: u64) {
        let mut turns = lock(&self.turns);
        let entry = turns.remove(&number);
        self.waiting.store(turns.len(), Ordering::SeqCst);
        // An entry may hold the last handle of a connection, so it is dropped after the lock is released.
        drop(turns);
        drop(entry);
    }

    /// Serves the waiting turns in order, as long as `take` reserves a slot.
    pub(in crate::transport) fn serve(&self, take: impl Fn() -> bool, give_back: impl Fn()) {
        loop {
            let mut turns = lock(&self.turns);
            if turns.is_empty() || !take() {
                return;
            }
            let Some((_, entry)) = turns.pop_first() else { return give_back() };
            self.waiting.store(turns.len(), Ordering::SeqCst);
            // Under the lock, so that a wait that has left the queue is given nothing any more.
            let served = entry.turn.serve(entry.index, &entry.connection);
            drop(turns);
            match served {
                Some(waker) => waker.into_iter().for_each(Waker::wake),
                None => give_back(),
            }
        }
    }
}

/// A wait for a slot on any of several connections. Dropping it ends the wait.
#[derive(Debug)]
pub(crate) struct Wait {
    turn: Arc<Turn>,
    at: Vec<Arc<Connection>>,
}

impl Wait {
    /// Joins the queue of each connection. A free slot is given to the turn that has waited longest, which may be this
    /// one at once.
    pub(crate) fn begin(turn: &Arc<Turn>, at: Vec<Arc<Connection>>) -> Self {
        // Made first, so that its drop takes the call out of the queues even after a panic.
        let wait = Self { turn: Arc::clone(turn), at };
        for (index, connection) in wait.at.iter().enumerate() {
            connection.streams.queue.put(turn, index, connection);
            connection.streams.serve();
        }
        wait
    }

    /// Resolves with the index of the connection and the slot. None if the turn [was given up](Turn::give_up).
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<(usize, Slot)>> {
        self.turn.poll(cx)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        for connection in &self.at {
            connection.streams.queue.remove(self.turn.number);
        }
        self.turn.pause();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use tokio::io::{AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::transport::failure::tests::connected;

    /// Stops the other thread, also when this one panics: the test shall fail then, not hang.
    struct Ends<'a>(&'a AtomicBool);

    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    /// A connection whose peer permits one concurrent request, its other end, and a guard that keeps it open.
    async fn one_at_a_time() -> (Arc<Connection>, DuplexStream, impl Sized) {
        const SETTINGS: [u8; 15] = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 1];
        let (connection, mut far, held) = connected(1 << 16).await;
        far.write_all(&SETTINGS).await.expect("there is room");
        while connection.streams.limit() != 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        (connection, far, held)
    }

    /// A slot that becomes free at the moment when a call stops waiting must not reach that call later, when it waits
    /// for other connections.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_has_stopped_waiting_is_given_nothing_any_more() {
        let (first, _far, _held) = one_at_a_time().await;
        let (second, _far_too, _held_too) = one_at_a_time().await;
        let _taken = second.try_reserve().expect("its only slot");
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Its slot is taken and freed all the time.
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    drop(first.try_reserve());
                }
            });
            scope.spawn(|| {
                let _ends = Ends(&over);
                let turn = Turn::new(1);
                for _ in 0..20_000 {
                    drop(Wait::begin(&turn, vec![Arc::clone(&second), Arc::clone(&first)]));
                    let mut other = Wait::begin(&turn, vec![Arc::clone(&second)]);
                    let polled = other.poll(&mut Context::from_waker(Waker::noop()));
                    assert!(polled.is_pending(), "{polled:?}: it waits for another connection, which is full");
                }
            });
        });
        tokio::time::timeout(Duration::from_secs(5), async {
            while first.streams.used() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("no slot is lost");
    }
}
