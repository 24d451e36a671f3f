//! The state that a channel's clones, its calls and its task share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use callboard_core::{ConnectivityState, ServiceName};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};

use super::publication::{News, Publication};
use super::state::Published;
use super::summary::{Standing, Summary};
use super::waiting::Waiting;
use crate::config::ActiveConfig;
use crate::grpc::Defaults;
use crate::transport::{Runtime, Turn};

/// Held by every clone of a channel and by every call that has no response yet. The control task ends when it is
/// dropped.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) service: ServiceName,
    pub(crate) defaults: Defaults,
    publication: Publication,
    /// The latest summary, for responses that are being received.
    pub(crate) standing: Arc<Standing>,
    /// Notified by each call that waits for an endpoint and, if endpoints may have several connections, by each call
    /// that finds no free stream.
    pub(crate) wanted: Arc<Notify>,
    /// Notified to dial every endpoint now.
    pub(crate) urge: Arc<Notify>,
    /// How many calls have ever waited for an endpoint or a stream. Turns are numbered by it.
    turns: AtomicU64,
    pub(crate) waiting: Waiting,
    /// The runtime of the channel's tasks. Calls may be polled on another one.
    pub(crate) runtime: Arc<Runtime>,
    state: watch::Sender<ConnectivityState>,
    _alive: oneshot::Sender<()>,
}

impl Shared {
    pub(crate) fn new(
        runtime: &Handle,
        service: ServiceName,
        defaults: Defaults,
        config: &ActiveConfig,
        alive: oneshot::Sender<()>,
    ) -> Self {
        let summary = Arc::new(Summary::unknown(service.clone()));
        let published = Published::unknown(Arc::clone(&summary), config);
        Self {
            standing: Arc::new(Standing::new(summary)),
            state: watch::Sender::new(published.state),
            publication: Publication::new(published),
            wanted: Arc::default(),
            urge: Arc::default(),
            turns: AtomicU64::new(0),
            waiting: Waiting::new(defaults.max_waiting_calls),
            runtime: Runtime::new(runtime),
            service,
            defaults,
            _alive: alive,
        }
    }

    /// The current state. Takes no lock; do not hold the guard across an await.
    pub(crate) fn published(&self) -> arc_swap::Guard<Arc<Published>> {
        self.publication.now()
    }

    /// Reads the current state, and returns the notifications of later changes. Takes no lock.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Published) -> T) -> (T, News<'_>) {
        self.publication.look(look)
    }

    /// Whether it is known that no service config affects calls that begin now.
    pub(crate) fn is_unruled(&self) -> bool {
        self.publication.is_unruled()
    }

    /// A turn after all earlier ones.
    pub(crate) fn next_turn(&self) -> Arc<Turn> {
        Turn::new(self.turns.fetch_add(1, Ordering::Relaxed))
    }

    /// Notes that a call waits for an endpoint.
    pub(crate) fn note_wait(&self) {
        self.wanted.notify_one();
    }

    /// Notes that a call has found no free stream.
    pub(crate) fn note_crowd(&self) {
        if self.defaults.several_connections {
            self.wanted.notify_one();
        }
    }

    pub(crate) fn publish(&self, published: Published) {
        let state = published.state;
        self.standing.note(Arc::clone(&published.summary));
        self.publication.publish(published);
        self.state.send_if_modified(|old| {
            let modified = *old != state;
            *old = state;
            modified
        });
    }

    pub(crate) fn state(&self) -> watch::Receiver<ConnectivityState> {
        self.state.subscribe()
    }
}
