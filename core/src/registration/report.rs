//! The state of a registration, and its lines in the log.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::RegistrationState;
use crate::{Error, ErrorKind, ServiceName};

/// Publishes a registration's state. Receivers are woken only by a change.
pub(super) struct Report {
    service: ServiceName,
    /// The instance's id.
    id: String,
    state: watch::Sender<RegistrationState>,
    /// Since when it has not been registered although it should be. None before the first failure.
    bad_since: Option<Instant>,
}

impl Report {
    pub(super) fn new(service: ServiceName, id: String, state: watch::Sender<RegistrationState>) -> Self {
        Self { service, id, state, bad_since: None }
    }

    /// The instance is registered, or what is published has changed. `pending` is why a change is not published yet.
    pub(super) fn registered(&mut self, pending: Option<Error>) {
        let Self { service, id, .. } = self;
        let bad_since = self.bad_since.take();
        self.state.send_if_modified(|state| {
            let RegistrationState::Registered { since, pending: former } = state else {
                let said = if matches!(state, RegistrationState::Lost { .. }) { "registered again" } else { "registered" };
                match bad_since {
                    None => tracing::debug!(%service, instance = id, "{said}"),
                    Some(since) => tracing::info!(%service, instance = id, after = ?since.elapsed(), "{said}"),
                }
                if let Some(error) = &pending {
                    let error = error.chain();
                    tracing::warn!(%service, instance = id, error, "registered with the last record that the registry accepted");
                }
                *state = RegistrationState::Registered { since: Instant::now(), pending };
                return true;
            };
            match (&pending, &former) {
                (None, None) => tracing::debug!(%service, instance = id, "entry updated"),
                (None, Some(_)) => tracing::info!(%service, instance = id, "the change is published"),
                (Some(error), None) => {
                    tracing::warn!(%service, instance = id, error = error.chain(), "a change is not published yet");
                }
                (Some(error), Some(_)) => {
                    tracing::debug!(%service, instance = id, error = error.chain(), "a change is still not published");
                }
            }
            let news = former.is_some() || pending.is_some();
            *state = RegistrationState::Registered { since: *since, pending };
            news
        });
    }

    /// Warns of the first failure and of each loss; what follows until the instance is registered is logged at DEBUG.
    /// A conflict is an error: two servers have been given one id.
    pub(super) fn failed(&mut self, error: Error, retry_in: Duration) {
        let (service, instance, chain) = (&self.service, &self.id, error.chain());
        self.bad_since.get_or_insert_with(Instant::now);
        self.state.send_modify(|state| {
            let (news, said) = match state {
                RegistrationState::Registered { .. } => (true, "the registration is lost"),
                RegistrationState::Registering { failures: 0, .. } => (true, "cannot register"),
                RegistrationState::Registering { .. } => (false, "still cannot register"),
                RegistrationState::Lost { .. } => (false, "the registration is still lost"),
                RegistrationState::Deregistered { .. } => return,
            };
            if error.kind() == ErrorKind::Conflict && (news || !was_conflict(state)) {
                tracing::error!(%service, instance, error = chain, ?retry_in, "{said}: another server has its id");
            } else if news {
                tracing::warn!(%service, instance, error = chain, ?retry_in, "{said}");
            } else {
                tracing::debug!(%service, instance, error = chain, ?retry_in, "{said}");
            }
            *state = match state {
                RegistrationState::Registering { failures, .. } => {
                    RegistrationState::Registering { failures: failures.saturating_add(1), error: Some(error) }
                }
                RegistrationState::Lost { since, .. } => RegistrationState::Lost { since: *since, error },
                _ => RegistrationState::Lost { since: Instant::now(), error },
            };
        });
    }

    /// No other state follows.
    pub(super) fn deregistered(&self, error: Option<&Error>) {
        let Self { service, id, .. } = self;
        match error {
            None => tracing::debug!(%service, instance = id, "deregistered"),
            Some(error) => tracing::warn!(%service, instance = id, error = error.chain(), "the registration has ended"),
        }
        self.state.send_replace(RegistrationState::Deregistered { error: error.cloned() });
    }
}

/// Whether the last failure was a conflict.
fn was_conflict(state: &RegistrationState) -> bool {
    match state {
        RegistrationState::Registering { error, .. } => error.as_ref().is_some_and(|e| e.kind() == ErrorKind::Conflict),
        RegistrationState::Lost { error, .. } => error.kind() == ErrorKind::Conflict,
        _ => false,
    }
}

/// A backend that panics, or a runtime that shuts down, must not leave a state behind that says "registered".
impl Drop for Report {
    fn drop(&mut self) {
        if !matches!(*self.state.borrow(), RegistrationState::Deregistered { .. }) {
            self.deregistered(Some(&ended().for_service(&self.service)));
        }
    }
}

/// The error of a registration whose task did not run to its end.
pub(super) fn ended() -> Error {
    Error::new(ErrorKind::Closed, "the registration's task was ended by a panic or by the end of its runtime")
}
