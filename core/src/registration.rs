//! Keeping an instance on the board until its owner leaves.

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
    /// How long the id may be [another's](ErrorKind::Conflict) until the registration ends. None by default: it goes on
    /// trying, so that the server is on the board once the other has gone. It is looked at after each attempt.
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
    /// Not on the board yet.
    #[non_exhaustive]
    Registering {
        /// Failed attempts so far.
        failures: u32,
        /// What the last one failed with.
        error: Option<Error>,
    },
    /// On the board.
    #[non_exhaustive]
    Registered {
        /// Since when.
        since: Instant,
        /// Set while the record that is published is not the one that the owner wishes: why the change could not be
        /// published. It is tried again.
        pending: Option<Error>,
    },
    /// Was on the board, and is being registered again.
    #[non_exhaustive]
    Lost {
        /// Since when.
        since: Instant,
        /// The last error: why it was lost or, later, why it could not be registered again.
        error: Error,
    },
    /// Off the board for good. No other state follows.
    #[non_exhaustive]
    Deregistered {
        /// None if the owner left and the entry was removed, or there was none to remove. Otherwise what went wrong: the
        /// id has been another's for longer than [`conflict_timeout`](RegistrationSettings::conflict_timeout)
        /// ([`Conflict`](ErrorKind::Conflict)), the entry could not be removed and ends by its time to live, or the task was ended from outside ([`Closed`](ErrorKind::Closed)).
        error: Option<Error>,
    },
}

/// Puts an instance on the board and keeps it there until the owner [deregisters](Registration::deregister) it.
///
/// It returns at once; one task does the rest, within the current tracing span:
/// - It registers, and tries again for ever when that fails, with the waits of
///   [`backoff`](RegistrationSettings::backoff). After [`Denied`](ErrorKind::Denied), [`Invalid`](ErrorKind::Invalid) and
///   [`Unsupported`](ErrorKind::Unsupported), which a person has to cure, it waits the longest at once.
/// - When the lease is lost it lets go of it, waits, and registers again. There are never two claims at once. The
///   waits start over after the instance has been on the board for longer than the longest of them, so that a lease
///   that is lost right after each registration does no harm.
/// - A change that cannot be published leaves what is published as it is, and is tried again with the same waits. The
///   state says so: [`pending`](RegistrationState::Registered::pending). If the claim is lost meanwhile, and the registry
///   refuses the changed record, the last one that it took is registered.
/// - [`Conflict`](ErrorKind::Conflict) says that the id is another's, who has claimed it later. That is logged as an error,
///   and does not end a server that serves: it is tried again, until the other has gone, or for
///   [`conflict_timeout`](RegistrationSettings::conflict_timeout) if that is set. Who has lost an entry to another of the
///   same incarnation gives way: it goes on with an older one, so that two equals do not take turns.
/// - An id or an address that [cannot stand](Instance::check) in a registry ends it at once, with that error.
/// - An incarnation of 0, which says that it is not known, is replaced by
///   [this process's](crate::Incarnation::of_this_process).
///
/// Announce a server once it listens.
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

/// An instance that is kept on the board.
///
/// **Dropping** it without [`deregister`](Self::deregister) takes the instance off the board too, but in the background: nobody
/// waits for that or learns how it went, and a runtime that shuts down first leaves the entry to its time to live.
#[derive(Debug)]
#[must_use = "dropping a registration takes the instance off the board"]
pub struct Registration {
    /// What should be on the board. The end of this channel tells the task that the owner has left, so that no
    /// wish can come after it.
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

    /// Waits until the instance is on the board. Nothing is given up when this gives up: the attempts go on.
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
                Err(Error::new(ErrorKind::Timeout, format!("not on the board within {timeout:?}")))
            }
            RegistrationState::Deregistered { error: None } => Err(Error::new(ErrorKind::Closed, "has left the board")),
        }
    }

    /// Changes the instance's weight, zone or metadata in place: watchers see a change, never a gap.
    ///
    /// It returns at once and the task publishes the change. Of several changes in a row only the result may be
    /// published; one that is made while the instance is not on the board is part of the next attempt. If publishing
    /// fails, what is published stays, and the change is tried again: [`RegistrationState::Registered`] says why.
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

    /// Takes the instance off the board for good and returns once that is acknowledged.
    ///
    /// It joins the task that registers, so nothing can put the instance back afterwards. An attempt in flight is
    /// waited for, and what it registered is revoked. Takes at most twice
    /// [`attempt_timeout`](RegistrationSettings::attempt_timeout).
    ///
    /// # Errors
    /// If the entry could not be removed: it ends by its time to live. If the registration had
    /// [ended](RegistrationState::Deregistered) before, what it ended with. It is no error if there is no claim to revoke
    /// because the last attempt has failed; what such an attempt may have left behind ends by its time to live.
    ///
    /// # Cancel safety
    /// If this is dropped before it resolves, the instance leaves all the same, in the background.
    pub async fn deregister(self) -> Result<()> {
        let Self { wanted, task, .. } = self;
        drop(wanted);
        task.await.unwrap_or_else(|ended| Err(report::ended().with_source(ended)))
    }
}
