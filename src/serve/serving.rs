//! A running server.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use callboard_core::{Error, ErrorKind, Instance, Registration, RegistrationState, Result};
use tokio::sync::watch;

use super::shutdown_steps::WayOut;

/// A running server, and its registration. [`Serve::start`](crate::Serve::start) makes it. Await
/// [`ended`](Self::ended), which reacts to signals.
///
/// **Dropping** it ends the server at once and deregisters the instance in the background, as dropping a
/// [`Registration`] does.
#[derive(Debug)]
#[must_use = "dropping it ends the server at once: await `ended`"]
pub struct Serving {
    instance: Arc<OnceLock<Instance>>,
    state: watch::Receiver<RegistrationState>,
    /// Taken to deregister.
    registration: Mutex<Option<Registration>>,
    /// Taken by the first call of `ended`.
    way_out: Mutex<Option<WayOut>>,
}

impl Serving {
    pub(super) fn new(instance: Arc<OnceLock<Instance>>, registration: Registration, way_out: WayOut) -> Self {
        let (state, way_out) = (registration.watch_state(), Mutex::new(Some(way_out)));
        Self { instance, state, registration: Mutex::new(Some(registration)), way_out }
    }

    /// The instance as it was first registered, with its advertised address. None while that address is not known,
    /// because it depends on the route to the registry, as [`advertise_address`](crate::advertise_address) says. It is
    /// known once the state is [registered](RegistrationState::Registered).
    pub fn instance(&self) -> Option<&Instance> {
        self.instance.get()
    }

    /// The state of the registration. It is [registering](RegistrationState::Registering) with the reason while the
    /// address cannot be found.
    pub fn state(&self) -> RegistrationState {
        self.state.borrow().clone()
    }

    /// Watches the state of the registration. A slow reader sees only the latest.
    pub fn watch_state(&self) -> watch::Receiver<RegistrationState> {
        self.state.clone()
    }

    /// Changes the instance's weight, zone or metadata in place, as [`Registration::update`] does. It has no effect
    /// once the server deregisters. While the address is not known, `change` sees `unknown.invalid`.
    pub fn update(&self, change: impl FnOnce(&mut Instance)) {
        if let Some(registration) = &*locked(&self.registration) {
            registration.update(change);
        }
    }

    /// Serves until there is a reason to stop, then shuts down, and returns when that is complete.
    /// [`Serve`](crate::Serve) describes the reasons and the steps.
    ///
    /// It succeeds if the server was told to stop and has finished its calls, or has ended without an error by itself.
    /// A failure to deregister is not an error here: it is logged, and part of [`state`](Self::state).
    ///
    /// # Errors
    /// - [`Timeout`](ErrorKind::Timeout): calls were still in flight after the [drain
    ///   timeout](crate::Serve::drain_timeout).
    /// - [`Conflict`](ErrorKind::Conflict): another server has had the id for longer than
    ///   [`conflict_timeout`](callboard_core::RegistrationSettings::conflict_timeout), which is not set by default.
    /// - [`Closed`](ErrorKind::Closed): the server has ended with an error, which is the source; a [later
    ///   signal](crate::Serve::later_signal) has ended it; or `ended` was called before.
    ///
    /// # Panics
    /// If the server has panicked: resumes its panic, after the instance is deregistered.
    ///
    /// # Cancel safety
    /// Not cancel-safe: if it is dropped before it resolves, the server ends at once and the instance is deregistered
    /// in the background.
    pub async fn ended(&self) -> Result<()> {
        let way_out = locked(&self.way_out).take();
        let Some(way_out) = way_out else {
            return Err(Error::new(ErrorKind::Closed, "`ended` was called before"));
        };
        let on_board = Registered(&self.registration);
        way_out.go(async { on_board.deregister().await }).await
    }
}

/// Deregisters the instance when the wait for the server's end is over, however that ends.
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

/// No panic can leave a value under these locks half changed.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
