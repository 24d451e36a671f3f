//! A server that runs.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use callboard_core::{Error, ErrorKind, Instance, Registration, RegistrationState, Result};
use tokio::sync::watch;

use super::way_out::WayOut;

/// A server that runs and is kept on the board. [`Serve::start`](crate::Serve::start) makes it; somebody has to wait for
/// [`ended`](Self::ended), which is what heeds signals.
///
/// **Dropping** it ends the server at once and takes the instance off the board in the background, as dropping an
/// [`Registration`] does.
#[derive(Debug)]
#[must_use = "dropping it ends the server at once: wait until it has `ended`"]
pub struct Serving {
    instance: Arc<OnceLock<Instance>>,
    state: watch::Receiver<RegistrationState>,
    /// Taken by who leaves.
    registration: Mutex<Option<Registration>>,
    /// Taken by who waits for the end.
    way_out: Mutex<Option<WayOut>>,
}

impl Serving {
    pub(super) fn new(instance: Arc<OnceLock<Instance>>, registration: Registration, way_out: WayOut) -> Self {
        let (state, way_out) = (registration.watch_state(), Mutex::new(Some(way_out)));
        Self { instance, state, registration: Mutex::new(Some(registration)), way_out }
    }

    /// The instance as it was first registered. Its address is where others reach it. None as long as that is still to be
    /// found out on the way to the registry, as [`advertise_address`](crate::advertise_address) says; it is known once it is
    /// [on the board](RegistrationState::Registered).
    pub fn instance(&self) -> Option<&Instance> {
        self.instance.get()
    }

    /// How it stands on the board. While its address cannot be found out, that is
    /// [signing in](RegistrationState::Registering), with the reason.
    pub fn state(&self) -> RegistrationState {
        self.state.borrow().clone()
    }

    /// Every change of how it stands. A slow reader sees the latest only.
    pub fn watch_state(&self) -> watch::Receiver<RegistrationState> {
        self.state.clone()
    }

    /// Changes the instance's weight, zone or metadata in place, as [`Registration::update`] does. Once it is leaving,
    /// nothing happens. As long as its address is not known, `change` sees `unknown.invalid`.
    pub fn update(&self, change: impl FnOnce(&mut Instance)) {
        if let Some(registration) = &*locked(&self.registration) {
            registration.update(change);
        }
    }

    /// Serves until there is a reason to stop, goes the way out, and returns at its end. [`Serve`](crate::Serve) says
    /// what the reasons and the steps are.
    ///
    /// It succeeds if the server was asked to stop and has finished its calls, or has ended well by itself. That the
    /// instance could not be taken off the board is no error here: it is logged, and in [`state`](Self::state).
    ///
    /// # Errors
    /// - [`Timeout`](ErrorKind::Timeout): calls were still in flight after the [grace](crate::Serve::drain_timeout).
    /// - [`Conflict`](ErrorKind::Conflict): it went because the id has been another server's for longer than
    ///   [`conflict_timeout`](callboard_core::RegistrationSettings::conflict_timeout), which is not set by default.
    /// - [`Closed`](ErrorKind::Closed): the server has ended with an error, which is the source; or a
    ///   [later signal](crate::Serve::later_signal) has ended it; or somebody has waited for the end before.
    ///
    /// # Panics
    /// If the server has panicked: with its panic, after the instance has left the board.
    ///
    /// # Cancel safety
    /// Dropped before it resolves, it ends the server at once and takes the instance off the board in the background.
    pub async fn ended(&self) -> Result<()> {
        let way_out = locked(&self.way_out).take();
        let Some(way_out) = way_out else {
            return Err(Error::new(ErrorKind::Closed, "somebody has waited for the server's end before"));
        };
        let on_board = Registered(&self.registration);
        way_out.go(async { on_board.deregister().await }).await
    }
}

/// The instance does not outlive the wait for the server's end on the board, however that ends.
struct Registered<'s>(&'s Mutex<Option<Registration>>);

impl Registered<'_> {
    async fn deregister(&self) -> Result<()> {
        let registration = locked(self.0).take();
        match registration {
            Some(registration) => registration.deregister().await,
            None => Ok(()),
        }
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        drop(locked(self.0).take());
    }
}

/// Nothing can be half done under these locks.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
