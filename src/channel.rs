//! What a generated client holds.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use callboard_core::{ConnectivityState, Error, ErrorKind, Result, ServiceName, Stale};
use futures_core::future::BoxFuture;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;

use crate::config::ConfigStatus;
use crate::control::{EndpointStatus, Shared};
use crate::lookaside::Lookaside;

/// What a generated tonic client holds instead of tonic's own channel: calls are balanced over whoever is signed in.
///
/// Made by [`dial`](crate::dial) or by a [builder](Self::builder). Cloning is cheap, and all clones are one channel;
/// when the last one is dropped, its task ends, and its connections close after the calls in flight.
///
/// As a [`tower_service::Service`] it is always ready, unless [it is to say](crate::ChannelBuilder::backpressure) that too many
/// calls wait. Waiting happens inside the call, under the call's deadline, and
/// the error of a call is a [`tonic::Status`]:
///
/// | what happened | status |
/// |---|---|
/// | no instances are registered, or every endpoint is failing, and the call does not [wait](crate::WaitForReady) | `UNAVAILABLE` |
/// | the connection was lost with the call in flight | `UNAVAILABLE` |
/// | the deadline passed, wherever the call was, be it between two attempts | `DEADLINE_EXCEEDED` |
/// | the server reset the stream | as gRPC maps the HTTP/2 error |
/// | the metadata is larger than the server says it takes | `INTERNAL`; the request is not sent |
/// | the response's headers or trailers are larger than this side takes | `INTERNAL` |
/// | a message is larger than the service's config permits, or more calls wait than may | `RESOURCE_EXHAUSTED` |
///
/// A request that was never sent is sent elsewhere; one that the server refused unprocessed is sent once more,
/// and one that the orderly end of a connection overtook up to four times. A call
/// that fails otherwise before its response begins is sent again if the service's config has a retry policy that lists
/// the status: up to five times in all, and the caller sees what the last attempt ended with. If that was told by
/// callboard and not by a server, the message says which attempt it was.
pub struct Channel {
    shared: Arc<Shared>,
    /// A wait for room for one more call.
    room: Option<Pin<Box<OwnedNotified>>>,
}

impl Clone for Channel {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), room: None }
    }
}

impl Channel {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, room: None }
    }

    /// The service that was dialled.
    pub fn service(&self) -> &ServiceName {
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

    /// How many calls wait now for an endpoint or for a place on a connection.
    pub fn waiting_calls(&self) -> usize {
        self.shared.waiting.count()
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
    /// if let Some(error) = config.rejected {
    ///     println!("{error}; still in force: {:?}, balancer {}", config.active, config.balancer);
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
        self.shared.published().summary.source()?.as_any().downcast_ref().cloned()
    }

    /// Dials every endpoint now that waits for its backoff, and lets the next wait of each be the first one again: for a
    /// program that knows better, because the network has just come back. grpc-go's `ResetConnectBackoff`. What is connected
    /// or being dialled goes on, and the registry is asked again as it would be.
    pub fn reset_connect_backoff(&self) {
        self.shared.urge.notify_one();
    }

    /// Waits until an endpoint is ready, for as long as `timeout`. For programs that want to know at start; calls need
    /// no such wait.
    ///
    /// It does not wait for what waiting cannot bring: when the registry refuses to answer, or when every endpoint fails,
    /// by what somebody has to change, it fails at once. Connections that are refused, names that are not found and a
    /// registry out of reach are waited for, as is a service that nobody has signed in for: they may come up.
    ///
    /// # Errors
    /// [`Timeout`](ErrorKind::Timeout). [`Denied`](ErrorKind::Denied), [`Invalid`](ErrorKind::Invalid) or
    /// [`Unsupported`](ErrorKind::Unsupported), with the error of the registry or of an endpoint as its source, before the
    /// time is over. [`Closed`](ErrorKind::Closed) if the channel's task has ended, by a panic of its balancer or with its
    /// runtime. The message says how the channel stands.
    ///
    /// # Cancel safety
    /// Cancel-safe: it only looks.
    pub async fn wait_ready(&self, timeout: Duration) -> Result<()> {
        // It may be awaited anywhere.
        let bounded = {
            let _entered = self.shared.runtime.enter();
            tokio::time::timeout(timeout, self.ready_or_hopeless())
        };
        let outcome = bounded.await;
        let summary = || self.shared.published().summary.to_string();
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err((kind, why))) => {
                let message = format!("not ready, and waiting does not help: {}", summary());
                Err(Error::new(kind, message).with_source(why))
            }
            Err(_) => Err(Error::new(ErrorKind::Timeout, format!("not ready within {timeout:?}: {}", summary()))),
        }
    }

    async fn ready_or_hopeless(&self) -> Result<(), (ErrorKind, Error)> {
        loop {
            let (looked, news) = self.shared.look(|published| match published.state {
                ConnectivityState::Ready => Some(Ok(())),
                _ => published.hopeless().map(Err),
            });
            if let Some(outcome) = looked {
                return outcome;
            }
            news.anything.await;
        }
    }
}

impl tower_service::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, std::result::Result<Self::Response, Status>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<std::result::Result<(), Status>> {
        let Self { shared, room } = self;
        if shared.defaults.backpressure {
            ready!(shared.waiting.poll_room(room, cx));
        }
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
