//! The channel that generated clients use.

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

/// A load-balanced connection to a service, which a generated tonic client takes in place of tonic's own channel. Calls
/// are balanced over the registered instances.
///
/// It is made by [`dial`](crate::dial) or by a [builder](Self::builder). Cloning is cheap, and all clones are one
/// channel. When the last clone is dropped, the channel's task ends, and its connections close after the calls in
/// flight.
///
/// As a [`tower_service::Service`] it is always ready, unless [`backpressure`](crate::ChannelBuilder::backpressure) is
/// on and too many calls wait. A call waits inside its future, under its deadline. The error of a call is a
/// [`tonic::Status`]:
///
/// | what happened | status |
/// |---|---|
/// | no instances are registered, or every endpoint is failing, and the call does not [wait](crate::WaitForReady) | `UNAVAILABLE` |
/// | the connection was lost with the call in flight | `UNAVAILABLE` |
/// | the deadline passed, in an attempt or between two | `DEADLINE_EXCEEDED` |
/// | the server reset the stream | as gRPC maps the HTTP/2 error |
/// | the metadata is larger than the server accepts | `INTERNAL`; the request is not sent |
/// | the response's headers or trailers are larger than the channel accepts | `INTERNAL` |
/// | a message is larger than the service config permits, or too many calls wait | `RESOURCE_EXHAUSTED` |
///
/// A request that was never sent is sent to another endpoint. One that the server refused unprocessed is sent once
/// more. One that was lost to the orderly end of a connection is sent again up to four times. A call that fails
/// otherwise before its response begins is sent again if the service config has a retry policy that lists the status:
/// up to five attempts in all. The caller gets the status of the last attempt. If callboard made that status, and not a
/// server, its message names the attempt.
pub struct Channel {
    shared: Arc<Shared>,
    /// The pending wait of `poll_ready` for room for one more call.
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

    /// Returns the service that was dialled.
    pub fn service(&self) -> &ServiceName {
        &self.shared.service
    }

    /// Returns the state of the whole channel. It is `READY` if any endpoint is ready, and `TRANSIENT_FAILURE` if calls
    /// that do not wait fail.
    pub fn state(&self) -> ConnectivityState {
        self.shared.published().state
    }

    /// Watches the state: its current value and every change. The watch ends when the last clone of the channel is
    /// dropped.
    pub fn watch_state(&self) -> watch::Receiver<ConnectivityState> {
        self.shared.state()
    }

    /// Returns how many calls wait now, for an endpoint or for a place on a connection.
    pub fn waiting_calls(&self) -> usize {
        self.shared.waiting.count()
    }

    /// Returns the status of each endpoint: its state, its calls, and why it is not connected. The order is that of the
    /// registry, or of the list of the [external balancer](Self::lookaside) in use.
    pub fn endpoints(&self) -> Vec<EndpointStatus> {
        self.shared.published().statuses()
    }

    /// Returns the active service config, the balancer in use, and why the config in the registry was rejected, if it
    /// was.
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

    /// Returns why and since when the set of endpoints may be out of date, with the registry's last error. None while
    /// the registry can be reached. In the meantime, calls go on with the last good set.
    pub fn stale(&self) -> Option<Stale> {
        self.shared.published().summary.stale().cloned()
    }

    /// Returns the status of external balancers: what decides where calls go, and which balancer is connected. None
    /// while the registry lists no balancer. See [`lookaside`](crate::lookaside).
    pub fn lookaside(&self) -> Option<Lookaside> {
        self.shared.published().summary.source()?.as_any().downcast_ref().cloned()
    }

    /// Dials every endpoint at once that waits for its backoff, and resets its backoff. This is grpc-go's
    /// `ResetConnectBackoff`, for a program that knows that the network is back. Endpoints that are connected or being
    /// dialled are left alone, and so are the queries to the registry.
    pub fn reset_connect_backoff(&self) {
        self.shared.urge.notify_one();
    }

    /// Waits until an endpoint is ready, for at most `timeout`. It is for programs that want to know at start; calls
    /// need no such wait.
    ///
    /// It fails at once if waiting cannot help: the registry rejects the request, or every endpoint fails for a reason
    /// that needs a change of configuration. It does wait while connections are refused, a name is not found, the
    /// registry is out of reach, or no instances are registered, as these can get better.
    ///
    /// # Errors
    /// [`Timeout`](ErrorKind::Timeout) if no endpoint is ready in time. [`Denied`](ErrorKind::Denied),
    /// [`Invalid`](ErrorKind::Invalid) or [`Unsupported`](ErrorKind::Unsupported) if waiting cannot help, with the
    /// error of the registry or of an endpoint as its source. [`Closed`](ErrorKind::Closed) if the channel's task has
    /// ended, by a panic of its balancer or with its runtime. The message describes the state of the channel.
    ///
    /// # Cancel safety
    /// Cancel-safe: it changes nothing.
    pub async fn wait_ready(&self, timeout: Duration) -> Result<()> {
        // The future may be polled outside a runtime.
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
