//! The head of a request.

use callboard_core::Call;
use http::uri::PathAndQuery;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use tonic::Status;

use super::deadline::Deadline;
use crate::shared::Defaults;

/// A request's head, kept so that it can be sent more than once.
#[derive(Debug)]
pub(super) struct Head {
    method: Method,
    uri: Uri,
    /// Empty while an attempt is under way, which has them.
    headers: HeaderMap,
    /// What the attempt under way has: as a list, which is cheaper to make for each call than a second map.
    lent: Vec<(HeaderName, HeaderValue)>,
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
        Ok(Self { method, uri, headers, lent: Vec::new(), extensions })
    }

    /// What a picker sees of it.
    pub(super) fn call(&self) -> Call<'_> {
        Call::new(self.uri.path(), &self.headers, &self.extensions)
    }

    pub(super) fn extension<T: Clone + Send + Sync + 'static>(&self) -> Option<&T> {
        self.extensions.get()
    }

    /// The head of one attempt, which tells the server how much time is left. Before another one, or another look at
    /// [`call`](Self::call), it has to be [`restored`](Self::restore).
    pub(super) fn attempt(&mut self, deadline: Option<Deadline>) -> http::Request<()> {
        self.lent = self.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut request = http::Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = http::Version::HTTP_2;
        *request.headers_mut() = std::mem::take(&mut self.headers);
        if let Some(deadline) = deadline {
            let (name, value) = deadline.header();
            request.headers_mut().insert(name, value);
        }
        request
    }

    /// Makes the head whole again after an attempt.
    pub(super) fn restore(&mut self) {
        self.headers = std::mem::take(&mut self.lent).into_iter().collect();
    }

    /// The request's extensions, emptied, for the response: the call is over, and the room is there already.
    pub(super) fn into_room(self) -> Extensions {
        let mut extensions = self.extensions;
        extensions.clear();
        extensions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_head_is_as_it_was() {
        let defaults = Defaults {
            scheme: http::uri::Scheme::HTTP,
            authority: http::uri::Authority::from_static("project.test"),
            user_agent: HeaderValue::from_static("callboard"),
            timeout: None,
            wait_for_ready: false,
            several_connections: false,
        };
        let request = http::Request::post("/s/m").header("a", "1").header("b", "2").header("a", "3").body(()).unwrap();
        let mut head = Head::new(request.into_parts().0, &defaults).unwrap();
        let first = head.attempt(None);
        head.restore();
        let second = head.attempt(None);
        assert_eq!(first.headers(), second.headers());
        assert_eq!(first.headers().get_all("a").iter().collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!((first.uri(), first.method()), (second.uri(), second.method()));
        assert_eq!(first.uri(), "http://project.test/s/m");
    }
}
