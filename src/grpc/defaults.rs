//! What a channel's calls have in common.

use std::time::Duration;

use http::header::Entry;
use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::credentials::Credentials;

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
    /// How many calls may wait. None for no bound.
    pub(crate) max_waiting_calls: Option<usize>,
    /// Whether the channel is not ready while so many wait.
    pub(crate) backpressure: bool,
    /// How many bytes of a request are kept to send it again.
    pub(crate) retry_buffer: usize,
    /// Fields of requests that only the channel may set, beside gRPC's own: those of its balancer. What a caller hands on
    /// under these names is not sent.
    pub(crate) own_fields: Vec<HeaderName>,
    /// What is asked for metadata for each attempt. None for most channels.
    pub(crate) credentials: Option<Credentials>,
}

impl Defaults {
    /// What stands in `plain`.
    pub(crate) fn plain_headers(user_agent: HeaderValue) -> HeaderMap {
        let trailers = (header::TE, HeaderValue::from_static("trailers"));
        let grpc = (header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        HeaderMap::from_iter([trailers, grpc, (header::USER_AGENT, user_agent)])
    }

    /// Says who calls. What the request says itself stands before it, as with tonic's channel.
    pub(crate) fn sign(&self, headers: &mut HeaderMap) {
        let ours = &self.plain[header::USER_AGENT];
        match headers.entry(header::USER_AGENT) {
            Entry::Vacant(entry) => drop(entry.insert(ours.clone())),
            Entry::Occupied(mut entry) => {
                let both = [entry.get().as_bytes(), b" ", ours.as_bytes()].concat();
                // Two values and a space are a value.
                entry.insert(HeaderValue::from_bytes(&both).unwrap_or_else(|_| ours.clone()));
            }
        }
    }
}
