//! The head of a request.

use callboard_core::Call;
use http::uri::PathAndQuery;
use http::{Extensions, HeaderMap, Method, Uri, header};
use tonic::Status;

use super::deadline::Deadline;
use crate::shared::Defaults;

/// A request's head, kept so that it can be sent more than once.
#[derive(Debug)]
pub(super) struct Head {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    extensions: Extensions,
}

impl Head {
    /// Completes what the generated client has left open: scheme and authority, unless it was made `with_origin`, and
    /// the user agent.
    pub(super) fn new(parts: http::request::Parts, defaults: &Defaults) -> Result<Self, Status> {
        let http::request::Parts { method, uri, mut headers, extensions, .. } = parts;
        let mut uri = uri.into_parts();
        uri.scheme.get_or_insert_with(|| defaults.scheme.clone());
        uri.authority.get_or_insert_with(|| defaults.authority.clone());
        uri.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
        let uri = Uri::from_parts(uri)
            .map_err(|error| Status::internal(format!("the request's URI cannot be completed: {error}")))?;
        headers.entry(header::USER_AGENT).or_insert_with(|| defaults.user_agent.clone());
        Ok(Self { method, uri, headers, extensions })
    }

    /// What a picker sees of it.
    pub(super) fn call(&self) -> Call<'_> {
        Call::new(self.uri.path(), &self.headers, &self.extensions)
    }

    pub(super) fn extension<T: Clone + Send + Sync + 'static>(&self) -> Option<&T> {
        self.extensions.get()
    }

    /// The head of one attempt, which tells the server how much time is left.
    pub(super) fn attempt(&self, deadline: Option<Deadline>) -> http::Request<()> {
        let mut request = http::Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = http::Version::HTTP_2;
        *request.headers_mut() = self.headers.clone();
        if let Some(deadline) = deadline {
            let (name, value) = deadline.header();
            request.headers_mut().insert(name, value);
        }
        request
    }
}
