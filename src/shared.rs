//! What a channel's clones, its calls and its task have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use callboard_core::{ConnectivityState, Service};
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, header};
use tokio::sync::{Notify, oneshot, watch};

use crate::control::{Policy, Published, Standing, Summary};

/// Held by every clone of a channel and by every call that has no response yet. Its end ends the control task.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) service: Service,
    pub(crate) defaults: Defaults,
    published: ArcSwap<Published>,
    /// It is known that no config says anything of calls: they need not look at what is published to begin.
    unruled: AtomicBool,
    /// For responses that are on their way.
    pub(crate) standing: Arc<Standing>,
    /// Told by each call that finds no place, if endpoints may have several connections.
    pub(crate) crowd: Arc<Notify>,
    /// Told after each publication.
    changed: Notify,
    state: watch::Sender<ConnectivityState>,
    _alive: oneshot::Sender<()>,
}

/// What a call gets that does not say otherwise.
#[derive(Clone, Debug)]
pub(crate) struct Defaults {
    pub(crate) scheme: Scheme,
    pub(crate) authority: Authority,
    /// The headers that every call has: those of tonic's clients, in their order, and the user agent.
    pub(crate) plain: HeaderMap,
    pub(crate) timeout: Option<Duration>,
    pub(crate) wait_for_ready: bool,
    pub(crate) several_connections: bool,
    /// How many bytes of a request are kept to send it again.
    pub(crate) retry_buffer: usize,
}

impl Defaults {
    /// What stands in `plain`.
    pub(crate) fn plain_headers(user_agent: HeaderValue) -> HeaderMap {
        let trailers = (header::TE, HeaderValue::from_static("trailers"));
        let grpc = (header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        HeaderMap::from_iter([trailers, grpc, (header::USER_AGENT, user_agent)])
    }

    pub(crate) fn user_agent(&self) -> &HeaderValue {
        &self.plain[header::USER_AGENT]
    }
}

impl Shared {
    pub(crate) fn new(service: Service, defaults: Defaults, policy: &Policy, alive: oneshot::Sender<()>) -> Self {
        let summary = Arc::new(Summary::unknown(service.clone()));
        let published = Published::unknown(Arc::clone(&summary), policy);
        Self {
            standing: Arc::new(Standing::new(summary)),
            state: watch::Sender::new(published.state),
            unruled: AtomicBool::new(published.is_unruled()),
            published: ArcSwap::from_pointee(published),
            crowd: Arc::default(),
            changed: Notify::new(),
            service,
            defaults,
            _alive: alive,
        }
    }

    /// What is known now. Without a lock; not to be held across an await.
    pub(crate) fn published(&self) -> arc_swap::Guard<Arc<Published>> {
        self.published.load()
    }

    /// Whether it is known that no config says anything of calls that begin now.
    pub(crate) fn is_unruled(&self) -> bool {
        self.unruled.load(Ordering::Relaxed)
    }

    /// Resolves at the next publication. It has to be enabled before [`published`](Self::published) is read.
    pub(crate) fn changed(&self) -> tokio::sync::futures::Notified<'_> {
        self.changed.notified()
    }

    /// Notes that a call has found no place.
    pub(crate) fn note_crowd(&self) {
        if self.defaults.several_connections {
            self.crowd.notify_one();
        }
    }

    pub(crate) fn publish(&self, published: Published) {
        let state = published.state;
        self.standing.note(Arc::clone(&published.summary));
        // Before the rest: whoever sees what is published sees this too.
        self.unruled.store(published.is_unruled(), Ordering::Relaxed);
        self.published.store(Arc::new(published));
        self.changed.notify_waiters();
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
