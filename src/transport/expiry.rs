//! The end of a call's time, even if the call is not polled.

use std::fmt;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::task::unconstrained;
use tokio::time::{Duration, Instant, Sleep, sleep_until};

use super::hold::Hold;
use super::runtime::Runtime;
use super::{Slot, Turn};

/// What a call holds while it waits. It is released at the deadline even if the call is not polled any more: its stream
/// ends and its slot is free. It is itself the waker of the call's timer, so no task is needed.
pub(crate) struct Expiry {
    at: Instant,
    /// The time that the call was given.
    given: Duration,
    /// The runtime of the timer. The call may be polled on another one.
    runtime: Arc<Runtime>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Held,
    /// The waker of the task that awaits the call.
    caller: Option<Waker>,
    over: bool,
}

#[derive(Default)]
enum Held {
    #[default]
    Nothing,
    Turn(Arc<Turn>),
    Slot(Slot),
    Stream(Hold),
}

impl Expiry {
    pub(crate) fn new(at: Instant, given: Duration, runtime: &Arc<Runtime>) -> Arc<Self> {
        Arc::new(Self { at, given, runtime: Arc::clone(runtime), state: Mutex::default() })
    }

    /// Polls the timer that fires at the deadline, and makes it first if there is none yet.
    pub(crate) fn poll(self: &Arc<Self>, timer: &mut Option<Pin<Box<Sleep>>>) -> Poll<()> {
        if self.runtime.has_ended() {
            return if self.is_over() { Poll::Ready(()) } else { Poll::Pending };
        }
        let timer = timer.get_or_insert_with(|| {
            let _entered = self.runtime.enter();
            Box::pin(sleep_until(self.at))
        });
        // `unconstrained`: the timer has to be set even if the polling task has used up its cooperative budget.
        let timer = pin!(unconstrained(timer.as_mut()));
        let fired = timer.poll(&mut Context::from_waker(&Waker::from(Arc::clone(self))));
        if fired.is_ready() {
            // A timer that has fired before the poll wakes no waker, so what is held is released here.
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

    /// Registers the waker to wake at the deadline.
    pub(crate) fn register(&self, caller: &Waker) {
        let mut state = self.lock();
        if !state.caller.as_ref().is_some_and(|known| known.will_wake(caller)) {
            let former = state.caller.replace(caller.clone());
            // Without the lock: dropping a waker runs foreign code.
            drop(state);
            drop(former);
        }
    }

    /// Notes the turn of a call that waits. The turn is given up at the deadline.
    pub(crate) fn wait(&self, turn: &Arc<Turn>) {
        self.replace(Held::Turn(Arc::clone(turn)));
    }

    /// Holds the slot of a call that waits for something else before it is sent. The slot is freed at the deadline.
    pub(crate) fn keep(&self, slot: Slot) {
        self.replace(Held::Slot(slot));
    }

    /// Returns the slot. None if the deadline has passed.
    pub(crate) fn take_back(&self) -> Option<Slot> {
        let held = std::mem::take(&mut self.lock().held);
        match held {
            Held::Slot(slot) => Some(slot),
            _ => None,
        }
    }

    /// Holds the stream of the call. It is reset at the deadline.
    pub(super) fn hold(&self, hold: Hold) {
        self.replace(Held::Stream(hold));
    }

    /// Returns the stream. None if the deadline has passed.
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
        // The lock is released first: dropping what was held takes other locks.
        drop(state);
        drop(former);
    }

    fn expire(&self) {
        let mut state = self.lock();
        // A timer may wake its waker for other reasons.
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
            Self::Slot(slot) => drop(slot),
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
