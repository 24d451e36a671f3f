//! How far an attempt to connect has come.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use callboard_core::{Error, ErrorKind};

use super::greeting::{Greeted, Greeting};
use super::phase::Phase;

/// How far one attempt to connect has come, and the first bytes of the peer. Connectors note it. The error of the
/// attempt is made from it: it names the phase, and the kind of peer if that is not a gRPC server.
#[derive(Debug, Default)]
pub(crate) struct Progress(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    encrypted: bool,
    /// The first bytes of the peer in this phase, if they are recorded.
    greeting: Option<Greeting>,
}

impl Progress {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic under the lock cannot leave a change half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn enter(&self, phase: Phase) {
        let mut state = self.state();
        state.encrypted |= phase == Phase::Tls;
        (state.phase, state.greeting) = (phase, None);
    }

    /// Enters a phase in which the peer sends on this socket, and records its first bytes.
    pub(super) fn listen<S>(&self, phase: Phase, socket: S) -> Greeted<S> {
        self.enter(phase);
        let (socket, greeting) = Greeted::new(socket);
        self.state().greeting = Some(greeting);
        socket
    }

    /// The error of an attempt that has timed out.
    pub(super) fn timed_out(&self, within: Duration) -> Error {
        let State { phase, encrypted, greeting } = &*self.state();
        let error = Error::new(ErrorKind::Timeout, format!("{phase}: {} within {within:?}", phase.missing()));
        explained(*phase, greeting.as_ref().and_then(|greeting| greeting.stranger(*phase, *encrypted)), error)
    }

    /// Explains this error, which names its phase, by what the peer has sent.
    pub(super) fn failed(&self, error: Error) -> Error {
        let State { phase, encrypted, greeting } = &*self.state();
        let answered = greeting.as_ref().and_then(|greeting| {
            greeting.stranger(*phase, *encrypted).or_else(|| greeting.silence(*phase, *encrypted).map(str::to_owned))
        });
        explained(*phase, answered, error)
    }
}

fn explained(phase: Phase, answered: Option<String>, error: Error) -> Error {
    match answered {
        Some(answered) => Error::new(error.kind(), format!("{phase}: {answered}")).with_source(error),
        None => error,
    }
}
