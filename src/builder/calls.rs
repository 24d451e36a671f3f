//! How calls are made.

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Error, Result};
use http::uri::Scheme;

use super::ChannelBuilder;
use crate::grpc::{CallCredentials, Credentials};

impl ChannelBuilder {
    /// The deadline of calls that set none, or a later one. None by default. It runs from the call to the end of its
    /// response, so it ends streams as well.
    ///
    /// As everywhere in gRPC, the earlier one of two deadlines counts: [`tonic::Request::set_timeout`] cannot give a call
    /// longer than this. [`Timeout`](crate::Timeout) in a request's extensions can, as it stands in the place of this.
    /// Where the service's config gives a method a timeout, that stands in the place of this one, too.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Whether calls wait until an endpoint is ready, unless they say otherwise with
    /// [`WaitForReady`](crate::WaitForReady), or the service's config does for their method. They fail fast by default.
    pub fn wait_for_ready(mut self, wait: bool) -> Self {
        self.wait_for_ready = wait;
        self
    }

    /// How many calls may wait at once: for an endpoint, or for a place on a connection. One more fails at once with
    /// `RESOURCE_EXHAUSTED`, and the message says how many wait. No bound by default, as in gRPC: then each call that
    /// waits costs some 10 KB of memory until its deadline.
    ///
    /// Calls that find an endpoint and a place at once do not count. 0 lets no call wait.
    pub fn max_waiting_calls(mut self, most: usize) -> Self {
        self.max_waiting_calls = Some(most);
        self
    }

    /// Whether the channel, as a [`Service`](tower_service::Service), is not ready while
    /// [as many calls wait as may](Self::max_waiting_calls). Not by default: then it is always ready, and one call too many
    /// fails. It is for layers that look at readiness, such as tower's `LoadShed`. A generated client awaits readiness
    /// before its call's deadline begins, so use a layer that does not wait, or a timeout of your own.
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

    /// How many bytes of a request are kept until its response begins, so that it can be sent again. 256 KiB by default,
    /// as in grpc-go. A larger request is not retried by the service's retry policy; a streamed one is not sent again for
    /// any reason once more of it than that has been sent.
    ///
    /// It bounds each call. As in grpc-go, nothing bounds what all calls of a channel keep together.
    pub fn retry_buffer(mut self, bytes: usize) -> Self {
        self.retry_buffer = bytes;
        self
    }

    /// The `:authority` of requests, for servers and proxies that go by it. By default the service's name with `.` for
    /// `/`. It never comes from the registry.
    pub fn authority(mut self, authority: impl Into<String>) -> Self {
        self.authority = Some(authority.into());
        self
    }

    /// What is asked for metadata, such as a fresh token, for each attempt of each call. Nothing by default.
    ///
    /// A channel without TLS is not built with credentials that
    /// [require it](crate::CallCredentials::requires_tls), which they do by default.
    pub fn call_credentials(mut self, credentials: impl CallCredentials) -> Self {
        self.credentials = Some(Credentials(Arc::new(credentials)));
        self
    }

    /// The credentials, if they may be sent as this channel sends them.
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

    /// What stands in front of callboard's own name in the `user-agent` header. Nothing by default. A user agent that a
    /// request has itself stands before both.
    pub fn user_agent(mut self, name: impl Into<String>) -> Self {
        self.user_agent = Some(name.into());
        self
    }
}
