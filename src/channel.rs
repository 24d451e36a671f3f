//! What a generated client holds.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use callboard_core::{ConnectivityState, Error, ErrorKind, Follow, Result, Service, Stale};
use futures_core::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tonic::Status;
use tonic::body::Body;
use tracing::Instrument;

use crate::builder::ChannelBuilder;
use crate::control::{ConfigStatus, Control, EndpointStatus, Parts, Policy};
use crate::lookaside::{Lookaside, Source, Way};
use crate::shared::{Defaults, Shared};

/// What a generated tonic client holds instead of tonic's own channel: calls are balanced over whoever is signed in.
///
/// Made by [`dial`](crate::dial) or by a [builder](Self::builder). Cloning is cheap, and all clones are one channel;
/// when the last one is dropped, its task ends, and its connections close after the calls in flight.
///
/// As a [`tower_service::Service`] it is always ready. Waiting happens inside the call, under the call's deadline, and
/// the error of a call is a [`tonic::Status`]:
///
/// | what happened | status |
/// |---|---|
/// | nobody is signed in, or every endpoint is failing, and the call does not [wait](crate::WaitForReady) | `UNAVAILABLE` |
/// | the connection was lost with the call in flight | `UNAVAILABLE` |
/// | the deadline passed, wherever the call was, be it between two attempts | `DEADLINE_EXCEEDED` |
/// | the server reset the stream | as gRPC maps the HTTP/2 error |
/// | the metadata is larger than the server says it takes | `INTERNAL`; the request is not sent |
///
/// A request that was never sent is sent elsewhere; one that the server refused unprocessed is sent once more. A call
/// that fails otherwise before its response begins is sent again if the service's config has a retry policy that lists
/// the status: up to five times in all, and the caller sees what the last attempt ended with. If that was told by
/// callboard and not by a server, the message says which attempt it was.
#[derive(Clone)]
pub struct Channel {
    shared: Arc<Shared>,
}

impl Channel {
    /// Starts to describe a channel to a service. See [`ChannelBuilder`].
    pub fn builder(service: Service) -> ChannelBuilder {
        ChannelBuilder::new(service)
    }

    /// Starts a channel's task.
    pub(crate) fn start(
        runtime: &Handle,
        service: Service,
        defaults: Defaults,
        parts: Parts,
        policy: Policy,
        follow: Follow,
        lookaside_patience: Duration,
    ) -> Self {
        let way = Way {
            service: service.clone(),
            defaults: defaults.clone(),
            connector: Arc::clone(&parts.connector),
            settings: parts.settings.clone(),
            backoff: parts.backoff.clone(),
            patience: lookaside_patience,
        };
        let span = tracing::debug_span!("channel", %service).or_current();
        let (alive, dropped) = oneshot::channel();
        let shared = Arc::new(Shared::new(service, defaults, &policy, alive));
        let control = Control::new(parts, policy, Source::new(follow, way), &shared);
        runtime.spawn(control.run(dropped).instrument(span));
        Self { shared }
    }

    /// The service that was dialled.
    pub fn service(&self) -> &Service {
        &self.shared.service
    }

    /// The state of the whole channel: `READY` if any endpoint is, `TRANSIENT_FAILURE` if calls that do not wait fail.
    pub fn state(&self) -> ConnectivityState {
        self.shared.published().state
    }

    /// The state as it is and every change of it. It ends when the last clone of the channel is dropped.
    pub fn watch_state(&self) -> watch::Receiver<ConnectivityState> {
        self.shared.state()
    }

    /// Every endpoint that is connected or to be, in the order of the registry, or of the list of the
    /// [external balancer](Self::lookaside) that decides: its state, its calls, and why it is not connected.
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        self.shared.published().statuses()
    }

    /// Which service config is in force, by which balancer calls are shared out, and why the config that stands in the
    /// registry is refused, if it is.
    ///
    /// ```no_run
    /// # async fn doc(channel: callboard::Channel) {
    /// let config = channel.service_config();
    /// if let Some(error) = config.refused {
    ///     println!("{error}; still in force: {:?}, balancer {}", config.in_force, config.balancer);
    /// }
    /// # }
    /// ```
    pub fn service_config(&self) -> ConfigStatus {
        (*self.shared.published().config).clone()
    }

    /// Why and since when the set of endpoints may be out of date: the registry's last error. None while it can be heard.
    /// Calls go on meanwhile, on the last good set.
    pub fn stale(&self) -> Option<Stale> {
        self.shared.published().summary.stale().cloned()
    }

    /// How it stands with external balancers: who decides where calls go, and who is talked to. None while the registry
    /// lists no balancer, and the channel's own one decides. See [`lookaside`](crate::lookaside).
    pub fn lookaside(&self) -> Option<Lookaside> {
        self.shared.published().summary.lookaside().cloned()
    }

    /// Waits until an endpoint is ready, for as long as `timeout`. For programs that want to know at start; calls need
    /// no such wait.
    ///
    /// # Errors
    /// [`Timeout`](ErrorKind::Timeout); the message says how the channel stands.
    ///
    /// # Cancel safety
    /// Cancel-safe: it only looks.
    pub async fn wait_ready(&self, timeout: Duration) -> Result<()> {
        let mut state = self.shared.state();
        let ready = state.wait_for(|state| *state == ConnectivityState::Ready);
        match tokio::time::timeout(timeout, ready).await {
            Ok(Ok(_)) => Ok(()),
            // The sender is in `self.shared`, so it is never gone; should that change, it is no success.
            Ok(Err(_)) => Err(Error::new(ErrorKind::Closed, "the channel is closed")),
            Err(_) => {
                let summary = self.shared.published().summary.to_string();
                Err(Error::new(ErrorKind::Timeout, format!("not ready within {timeout:?}: {summary}")))
            }
        }
    }
}

impl tower_service::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, std::result::Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<std::result::Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        crate::call::run(Arc::clone(&self.shared), request)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel").field("service", self.service()).field("state", &self.state()).finish_non_exhaustive()
    }
}
