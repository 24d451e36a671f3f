//! Settings of calls.

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Error, Result};
use http::uri::Scheme;

use super::ChannelBuilder;
use crate::grpc::{CallCredentials, Credentials};

impl ChannelBuilder {
    /// Sets the deadline of calls that set none, or a later one. None by default. It covers the call up to the end of
    /// its response, so it ends streams as well.
    ///
    /// As in all of gRPC, the earlier of two deadlines counts: [`tonic::Request::set_timeout`] cannot give a call
    /// longer than this. [`Timeout`](crate::Timeout) in a request's extensions replaces this one, and so does a timeout
    /// in the service config for the call's method.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets whether calls wait until an endpoint is ready. The default is `false`: they fail fast.
    /// [`WaitForReady`](crate::WaitForReady) on a call, or the service config for its method, overrides this.
    pub fn wait_for_ready(mut self, wait: bool) -> Self {
        self.wait_for_ready = wait;
        self
    }

    /// Sets how many calls may wait at once, for an endpoint or for a place on a connection. One more fails at once
    /// with `RESOURCE_EXHAUSTED`, and the message says how many wait. There is no bound by default, as in gRPC. Each
    /// call that waits takes some 10 KB of memory until its deadline.
    ///
    /// A call that finds an endpoint and a place at once does not count. With 0, no call waits.
    pub fn max_waiting_calls(mut self, most: usize) -> Self {
        self.max_waiting_calls = Some(most);
        self
    }

    /// Sets whether the channel, as a [`Service`](tower_service::Service), is not ready while [as many calls wait as
    /// allowed](Self::max_waiting_calls). The default is `false`: the channel is always ready, and one call too many
    /// fails. This is for layers that look at readiness, such as tower's `LoadShed`. A generated client awaits
    /// readiness before its call's deadline begins, so use a layer that does not wait, or a timeout of your own.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> callboard::Result<()> {
    /// use callboard::{Channel, backend::Memory};
    ///
    /// let builder = Channel::builder("project/test".parse()?).resolver(Memory::default());
    /// let channel = builder.max_waiting_calls(1_000).backpressure(true).build()?;
    /// # Ok(()) }
    /// ```
    pub fn backpressure(mut self, backpressure: bool) -> Self {
        self.backpressure = backpressure;
        self
    }

    /// Sets how many bytes of a request are kept until its response begins, so that it can be sent again. 256 KiB by
    /// default, as in grpc-go. A larger request is not retried by a retry policy. A streamed one is not sent again for
    /// any reason once more than that has been sent.
    ///
    /// The bound is per call. As in grpc-go, there is no bound on all calls of a channel together.
    pub fn retry_buffer(mut self, bytes: usize) -> Self {
        self.retry_buffer = bytes;
        self
    }

    /// Sets the `:authority` of requests, for servers and proxies that route by it. The default is the service's name
    /// with `.` for `/`. It never comes from the registry.
    pub fn authority(mut self, authority: impl Into<String>) -> Self {
        self.authority = Some(authority.into());
        self
    }

    /// Sets the credentials, which add metadata such as a fresh token to each attempt of each call. None by default.
    ///
    /// [`build`](Self::build) fails if the credentials [require TLS](crate::CallCredentials::requires_tls), as they do
    /// by default, and the channel has none.
    pub fn call_credentials(mut self, credentials: impl CallCredentials) -> Self {
        self.credentials = Some(Credentials(Arc::new(credentials)));
        self
    }

    /// The credentials. An error if they require TLS and this channel has none.
    pub(super) fn credentials(&self) -> Result<Option<Credentials>> {
        match &self.credentials {
            Some(Credentials(given)) if given.requires_tls() && self.scheme() == Scheme::HTTP => {
                let why = "the call credentials require TLS, and the channel has none: give it `tls`, or, where the \
                           connections are safe without, let `requires_tls` say so";
                Err(Error::invalid(why).for_service(&self.service))
            }
            given => Ok(given.clone()),
        }
    }

    /// Sets what precedes callboard's own name in the `user-agent` header. Nothing by default. A user agent that a
    /// request has itself precedes both.
    pub fn user_agent(mut self, name: impl Into<String>) -> Self {
        self.user_agent = Some(name.into());
        self
    }
}
