//! Keeping an instance registered until its owner deregisters it.

mod report;
mod task;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tracing::Instrument;

use self::report::Report;
use self::task::Task;
use crate::{Backoff, Error, ErrorKind, Instance, Registry, Result, ServiceName};

/// The bounds of a [`Registration`].
///
/// ```
/// use std::time::Duration;
/// use callboard_core::RegistrationSettings;
///
/// let mut settings = RegistrationSettings::default();
/// settings.attempt_timeout = Duration::from_secs(3);
/// ```
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct RegistrationSettings {
    /// The bound of each attempt to register, to update and to revoke. 10 s by default.
    pub attempt_timeout: Duration,
    /// The waits between attempts. [`Backoff::REGISTRY`] by default.
    pub backoff: Backoff,
    /// How long the id may belong to [another server](ErrorKind::Conflict) until the registration ends. None by default: it
    /// goes on trying, so that the server is registered once the other is gone. It is checked after each attempt.
    pub conflict_timeout: Option<Duration>,
}

impl Default for RegistrationSettings {
    fn default() -> Self {
        Self { attempt_timeout: Duration::from_secs(10), backoff: Backoff::REGISTRY, conflict_timeout: None }
    }
}

/// How a registration stands.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum RegistrationState {
    /// Not registered yet.
    #[non_exhaustive]
    Registering {
        /// Failed attempts so far.
        failures: u32,
        /// What the last one failed with.
        error: Option<Error>,
    },
    /// Registered.
    #[non_exhaustive]
    Registered {
        /// Since when.
        since: Instant,
        /// Set while a change could not be published: why. The former record stands, and the change is tried again.
        pending: Option<Error>,
    },
    /// Was registered, and is being registered again.
    #[non_exhaustive]
    Lost {
        /// Since when.
        since: Instant,
        /// The last error: why it was lost or, later, why it could not be registered again.
        error: Error,
    },
    /// Deregistered for good. No other state follows.
    #[non_exhaustive]
    Deregistered {
        /// None if the owner has deregistered the instance and the entry was removed, or there was none to remove.
        /// Otherwise what went wrong: the id belonged to another server for longer than
        /// [`conflict_timeout`](RegistrationSettings::conflict_timeout) ([`Conflict`](ErrorKind::Conflict)); the entry could
        /// not be removed and ends by its time to live; or the task was ended from outside ([`Closed`](ErrorKind::Closed)).
        error: Option<Error>,
    },
}

/// Registers an instance and keeps it registered until the owner [deregisters](Registration::deregister) it.
///
/// It returns at once; one task does the rest, within the current tracing span:
/// - It registers, and tries again for ever when that fails, with the waits of
///   [`backoff`](RegistrationSettings::backoff). After [`Denied`](ErrorKind::Denied), [`Invalid`](ErrorKind::Invalid) and
///   [`Unsupported`](ErrorKind::Unsupported), which do not pass by themselves, it takes the longest wait at once.
/// - When the lease is lost it drops it, waits, and registers again. There are never two claims at once. The waits
///   start over after the instance has been registered for longer than the longest of them, so that a lease that is
///   lost right after each registration does no harm.
/// - A change that cannot be published leaves the published record as it is, and is tried again with the same waits. The
///   state says so: [`pending`](RegistrationState::Registered::pending). If the claim is lost meanwhile, and the registry
///   refuses the changed record, the last record that it accepted is registered.
/// - [`Conflict`](ErrorKind::Conflict) says that another server has claimed the id later. That is logged as an error, and
///   does not end this server. The registration is tried again until the other is gone, or for
///   [`conflict_timeout`](RegistrationSettings::conflict_timeout) if that is set. A claim that loses its entry to another
///   one of the same incarnation goes on with an older incarnation, so that the two do not replace each other in turn.
/// - An incarnation of 0, which says that it is not known, is replaced by
///   [this process's](crate::Incarnation::of_this_process).
///
/// Register a server once it listens.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// use callboard_core::{RegistrationSettings, Instance, register};
/// use callboard_memory::Memory;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> callboard_core::Result<()> {
/// let registry = Arc::new(Memory::default());
/// let instance = Instance::at("10.0.0.7:50051".parse()?)?;
/// let registration = register(registry, &"project/test".parse()?, instance, RegistrationSettings::default());
/// registration.wait_registered(Duration::from_secs(5)).await?;
/// // Serve; then, before the server stops:
/// registration.deregister().await?;
/// # Ok(())
/// # }
/// ```
///
/// # Panics
/// Outside a tokio runtime, as [`tokio::spawn`] does.
#[track_caller]
pub fn register(
    registry: Arc<dyn Registry>,
    service: &ServiceName,
    instance: Instance,
    settings: RegistrationSettings,
) -> Registration {
    let (state, told) = watch::channel(RegistrationState::Registering { failures: 0, error: None });
    let report = Report::new(service.clone(), instance.id().to_owned(), state);
    let (wanted, wish) = watch::channel(instance.of_known_incarnation());
    let task = Task::new(registry, service.clone(), settings, wish, report);
    let runtime = Handle::try_current().unwrap_or_else(|error| {
        panic!(
            "`register` is called outside a tokio runtime: call it in an async fn, or after `runtime.enter()` ({error})"
        )
    });
    let task = runtime.spawn(task.run().in_current_span());
    Registration { wanted, state: told, task, runtime }
}

/// An instance that is kept registered.
///
/// **Dropping** it without [`deregister`](Self::deregister) deregisters the instance too, but in the background: the
/// outcome is only logged, and if the runtime shuts down first, the entry stays until its time to live ends.
#[derive(Debug)]
#[must_use = "dropping a registration deregisters the instance"]
pub struct Registration {
    /// What should be registered. The end of this channel tells the task to deregister, so that no change can come after
    /// that.
    wanted: watch::Sender<Instance>,
    state: watch::Receiver<RegistrationState>,
    task: JoinHandle<Result<()>>,
    /// Where it was made.
    runtime: Handle,
}

impl Registration {
    /// How it stands now.
    pub fn state(&self) -> RegistrationState {
        self.state.borrow().clone()
    }

    /// Every change of state. A slow reader sees the latest only.
    pub fn watch_state(&self) -> watch::Receiver<RegistrationState> {
        self.state.clone()
    }

    /// Waits until the instance is registered. After the timeout, the attempts to register go on.
    ///
    /// # Errors
    /// After `timeout`, the error of the last attempt, or [`Timeout`](ErrorKind::Timeout) if none has failed yet. At
    /// once, if the registration has [ended](RegistrationState::Deregistered).
    pub async fn wait_registered(&self, timeout: Duration) -> Result<()> {
        let mut state = self.state.clone();
        let settled = |state: &RegistrationState| {
            matches!(state, RegistrationState::Registered { .. } | RegistrationState::Deregistered { .. })
        };
        // An error says that the task is gone; it says why in the last state.
        let bounded = {
            // It may be awaited anywhere.
            let _entered = self.runtime.enter();
            self::timeout(timeout, state.wait_for(settled))
        };
        let _ = bounded.await;
        match self.state() {
            RegistrationState::Registered { .. } => Ok(()),
            RegistrationState::Registering { error: Some(error), .. }
            | RegistrationState::Lost { error, .. }
            | RegistrationState::Deregistered { error: Some(error) } => Err(error),
            RegistrationState::Registering { error: None, .. } => {
                Err(Error::new(ErrorKind::Timeout, format!("not registered within {timeout:?}")))
            }
            RegistrationState::Deregistered { error: None } => {
                Err(Error::new(ErrorKind::Closed, "it was deregistered"))
            }
        }
    }

    /// Changes the instance's weight, zone or metadata in place: watchers see a change, never a gap.
    ///
    /// It returns at once and the task publishes the change. Of several changes in a row only the result may be
    /// published. A change that is made while the instance is not registered is part of the next attempt. If publishing
    /// fails, the former record stays, and the change is tried again: [`RegistrationState::Registered`] says why.
    ///
    /// Id, address, kind and incarnation say which instance it is. They stay as registered, whatever `change` does.
    ///
    /// ```
    /// # use callboard_core::Registration;
    /// # fn example(registration: &Registration) {
    /// registration.update(|instance| instance.set_weight(0));
    /// # }
    /// ```
    pub fn update(&self, change: impl FnOnce(&mut Instance)) {
        self.wanted.send_if_modified(|wanted| {
            // Worked out on a copy, so that a `change` that panics changes nothing.
            let mut changed = wanted.clone();
            change(&mut changed);
            let changed = changed.with_name_of(wanted).with_kind(wanted.kind()).with_incarnation(wanted.incarnation());
            let differs = changed != *wanted;
            *wanted = changed;
            differs
        });
    }

    /// Deregisters the instance for good and returns once the registry has acknowledged that.
    ///
    /// It waits for the task that registers, so nothing can put the instance back afterwards. An attempt in flight is
    /// waited for, and what it registered is revoked. Takes at most twice
    /// [`attempt_timeout`](RegistrationSettings::attempt_timeout).
    ///
    /// # Errors
    /// If the entry could not be removed: it ends by its time to live. If the registration had
    /// [ended](RegistrationState::Deregistered) before, the error that it ended with. It is no error if there is nothing to
    /// revoke because the last attempt has failed; an entry that such an attempt may have left ends by its time to live.
    ///
    /// # Cancel safety
    /// If this is dropped before it resolves, the instance is deregistered all the same, in the background.
    pub async fn deregister(self) -> Result<()> {
        let Self { wanted, task, .. } = self;
        drop(wanted);
        task.await.unwrap_or_else(|ended| Err(report::ended().with_source(ended)))
    }
}
