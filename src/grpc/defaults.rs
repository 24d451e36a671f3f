//! Defaults of a channel's calls.

use std::time::Duration;

use http::header::Entry;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::credentials::Credentials;

/// Defaults of a channel's calls.
#[derive(Clone, Debug)]
pub(crate) struct Defaults {
    pub(crate) scheme: Scheme,
    pub(crate) authority: Authority,
    /// The headers of every call: those of tonic's clients, in their order, and the user agent.
    pub(crate) plain: HeaderMap,
    pub(crate) timeout: Option<Duration>,
    pub(crate) wait_for_ready: bool,
    pub(crate) several_connections: bool,
    /// How many calls may wait. None for no bound.
    pub(crate) max_waiting_calls: Option<usize>,
    /// Whether the channel is not ready while so many calls wait.
    pub(crate) backpressure: bool,
    /// How many bytes of a request are kept to send it again.
    pub(crate) retry_buffer: usize,
    /// Header fields that only the channel may set, beside gRPC's own: those of its balancer. If a caller passes them
    /// on, they are not sent.
    pub(crate) own_fields: Vec<HeaderName>,
    /// The call credentials. None for most channels.
    pub(crate) credentials: Option<Credentials>,
}

impl Defaults {
    /// The value of [`plain`](Self::plain).
    pub(crate) fn plain_headers(user_agent: HeaderValue) -> HeaderMap {
        let trailers = (header::TE, HeaderValue::from_static("trailers"));
        let grpc = (header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        HeaderMap::from_iter([trailers, grpc, (header::USER_AGENT, user_agent)])
    }

    /// Adds the user agent. The request's own user agent comes before it, as with tonic's channel.
    pub(crate) fn sign(&self, headers: &mut HeaderMap) {
        let ours = &self.plain[header::USER_AGENT];
        match headers.entry(header::USER_AGENT) {
            Entry::Vacant(entry) => drop(entry.insert(ours.clone())),
            Entry::Occupied(mut entry) => {
                let both = [entry.get().as_bytes(), b" ", ours.as_bytes()].concat();
                // Two valid values joined by a space are a valid value.
                entry.insert(HeaderValue::from_bytes(&both).unwrap_or_else(|_| ours.clone()));
            }
        }
    }
}
