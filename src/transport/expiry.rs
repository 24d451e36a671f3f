//! The end of a call's time, whoever polls.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::task::unconstrained;
use tokio::time::{Duration, Instant, Sleep, sleep_until};

use super::hold::Hold;
use super::runtime::Runtime;
use super::{Slot, Turn};

/// What a call holds while it waits for others, which is taken from it when its time is up, even if nobody polls it any
/// more: its stream ends and its place is free. It is the waker of the call's timer, so that takes no task.
pub(crate) struct Expiry {
    at: Instant,
    /// How much time the call was given.
    given: Duration,
    /// Where the timer runs, wherever the call is polled.
    runtime: Arc<Runtime>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Held,
    /// Who awaits the call.
    caller: Option<Waker>,
    over: bool,
}

#[derive(Default)]
enum Held {
    #[default]
    Nothing,
    Turn(Arc<Turn>),
    Place(Slot),
    Stream(Hold),
}

impl Expiry {
    pub(crate) fn new(at: Instant, given: Duration, runtime: &Arc<Runtime>) -> Arc<Self> {
        Arc::new(Self { at, given, runtime: Arc::clone(runtime), state: Mutex::default() })
    }

    /// Polls the timer that fires when the time comes, and makes it if there is none yet.
    pub(crate) fn poll(self: &Arc<Self>, timer: &mut Option<Pin<Box<Sleep>>>) -> Poll<()> {
        if self.runtime.has_ended() {
            return if self.is_over() { Poll::Ready(()) } else { Poll::Pending };
        }
        let timer = timer.get_or_insert_with(|| {
            let _entered = self.runtime.enter();
            Box::pin(sleep_until(self.at))
        });
        // It has to be set even if whoever polls has used up the time that its task may take.
        let timer = pin!(unconstrained(timer.as_mut()));
        let fired = timer.poll(&mut Context::from_waker(&Waker::from(Arc::clone(self))));
        if fired.is_ready() {
            // One that has fired before it was asked tells nobody, and whoever asks need not be the one who acts.
            self.expire();
        }
        fired
    }

    pub(crate) fn given(&self) -> Duration {
        self.given
    }

    pub(crate) fn at(&self) -> Instant {
        self.at
    }

    /// Whether the time has come.
    pub(crate) fn is_over(&self) -> bool {
        self.at <= Instant::now()
    }

    /// Has this waker told when the time has come.
    pub(crate) fn register(&self, caller: &Waker) {
        let mut state = self.lock();
        if !state.caller.as_ref().is_some_and(|known| known.will_wake(caller)) {
            let former = state.caller.replace(caller.clone());
            // Without the lock: it is somebody else's code.
            drop(state);
            drop(former);
        }
    }

    /// Notes that the call waits for its turn, which it loses when the time has come.
    pub(crate) fn wait(&self, turn: &Arc<Turn>) {
        self.replace(Held::Turn(Arc::clone(turn)));
    }

    /// Keeps the place of a call that waits for something else before it is sent. It is free when the time has come.
    pub(crate) fn keep(&self, place: Slot) {
        self.replace(Held::Place(place));
    }

    /// Gives the place back. None if the time has come before.
    pub(crate) fn take_back(&self) -> Option<Slot> {
        let held = std::mem::take(&mut self.lock().held);
        match held {
            Held::Place(place) => Some(place),
            _ => None,
        }
    }

    /// Notes that the call has this stream, which is reset when the time has come.
    pub(super) fn hold(&self, hold: Hold) {
        self.replace(Held::Stream(hold));
    }

    /// Gives back what it holds of the stream. None if the time has come before.
    pub(super) fn release(&self) -> Option<Hold> {
        let held = std::mem::take(&mut self.lock().held);
        match held {
            Held::Stream(hold) => Some(hold),
            _ => None,
        }
    }

    fn replace(&self, held: Held) {
        let mut state = self.lock();
        if state.over {
            drop(state);
            return held.end();
        }
        let former = std::mem::replace(&mut state.held, held);
        // Without the lock: whatever this lets go takes others.
        drop(state);
        drop(former);
    }

    fn expire(&self) {
        let mut state = self.lock();
        // A timer may wake for other reasons.
        let over = self.is_over();
        state.over |= over;
        let held = if over { std::mem::take(&mut state.held) } else { Held::Nothing };
        let caller = state.caller.take();
        drop(state);
        held.end();
        caller.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing can be half done under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn end(self) {
        match self {
            Self::Nothing => {}
            Self::Turn(turn) => turn.give_up(),
            Self::Place(place) => drop(place),
            Self::Stream(hold) => hold.expire(),
        }
    }
}

impl Wake for Expiry {
    fn wake(self: Arc<Self>) {
        self.expire();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.expire();
    }
}

impl fmt::Debug for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expiry").field("at", &self.at).finish_non_exhaustive()
    }
}
