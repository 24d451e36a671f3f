//! What an announcement says of itself: its state, and lines in the log.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::AnnouncementState;
use crate::{Error, ErrorKind, Service};

/// Where an announcement's state is told. Whoever is told nothing new hears nothing.
pub(super) struct Report {
    service: Service,
    /// The instance's id.
    id: String,
    state: watch::Sender<AnnouncementState>,
}

impl Report {
    pub(super) fn new(service: Service, id: String, state: watch::Sender<AnnouncementState>) -> Self {
        Self { service, id, state }
    }

    /// The instance is on the board, or what is published has changed. `pending` is why a change is not published yet.
    pub(super) fn on_board(&self, pending: Option<Error>) {
        let Self { service, id, .. } = self;
        self.state.send_if_modified(|state| {
            let mut news = true;
            let since = match state {
                AnnouncementState::OnBoard { since, pending: former } => {
                    news = former.is_some() || pending.is_some();
                    match (&pending, former) {
                        (None, _) => tracing::debug!(%service, instance = id, "entry updated"),
                        (Some(error), None) => {
                            tracing::warn!(%service, instance = id, error = error.chain(), "a change is not published yet");
                        }
                        (Some(error), Some(_)) => {
                            tracing::debug!(%service, instance = id, error = error.chain(), "a change is still not published");
                        }
                    }
                    *since
                }
                _ => {
                    tracing::debug!(%service, instance = id, "on the board");
                    if let Some(error) = &pending {
                        let error = error.chain();
                        tracing::warn!(%service, instance = id, error, "on the board with the last record that was taken");
                    }
                    Instant::now()
                }
            };
            *state = AnnouncementState::OnBoard { since, pending };
            news
        });
    }

    /// Warns of the first failure and of each loss; what follows until the instance is on the board is detail. That the
    /// id is another's is more than a warning: two servers have been given one name.
    pub(super) fn failed(&self, error: Error, retry_in: Duration) {
        let (service, instance, chain) = (&self.service, &self.id, error.chain());
        self.state.send_modify(|state| {
            let (news, said) = match state {
                AnnouncementState::OnBoard { .. } => (true, "lost its place on the board"),
                AnnouncementState::SigningIn { failures: 0, .. } => (true, "cannot sign in"),
                AnnouncementState::SigningIn { .. } => (false, "still cannot sign in"),
                AnnouncementState::Lost { .. } => (false, "still lost"),
                AnnouncementState::Left { .. } => return,
            };
            if error.kind() == ErrorKind::Conflict && (news || !was_conflict(state)) {
                tracing::error!(%service, instance, error = chain, ?retry_in, "{said}: another server has its id");
            } else if news {
                tracing::warn!(%service, instance, error = chain, ?retry_in, "{said}");
            } else {
                tracing::debug!(%service, instance, error = chain, ?retry_in, "{said}");
            }
            *state = match state {
                AnnouncementState::SigningIn { failures, .. } => {
                    AnnouncementState::SigningIn { failures: failures.saturating_add(1), error: Some(error) }
                }
                AnnouncementState::Lost { since, .. } => AnnouncementState::Lost { since: *since, error },
                _ => AnnouncementState::Lost { since: Instant::now(), error },
            };
        });
    }

    /// No other state follows.
    pub(super) fn left(&self, error: Option<&Error>) {
        let Self { service, id, .. } = self;
        match error {
            None => tracing::debug!(%service, instance = id, "left the board"),
            Some(error) => tracing::warn!(%service, instance = id, error = error.chain(), "off the board for good"),
        }
        self.state.send_replace(AnnouncementState::Left { error: error.cloned() });
    }
}

/// What failed last was that the id is another's.
fn was_conflict(state: &AnnouncementState) -> bool {
    match state {
        AnnouncementState::SigningIn { error, .. } => error.as_ref().is_some_and(|e| e.kind() == ErrorKind::Conflict),
        AnnouncementState::Lost { error, .. } => error.kind() == ErrorKind::Conflict,
        _ => false,
    }
}

/// A backend that panics, or a runtime that shuts down, must not leave a state behind that says "on the board".
impl Drop for Report {
    fn drop(&mut self) {
        if !matches!(*self.state.borrow(), AnnouncementState::Left { .. }) {
            self.left(Some(&ended().for_service(&self.service)));
        }
    }
}

/// The error of an announcement whose task did not run to its end.
pub(super) fn ended() -> Error {
    Error::new(ErrorKind::Closed, "the announcing task was ended by a panic or by the end of its runtime")
}
