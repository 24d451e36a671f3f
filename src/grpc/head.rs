//! The head of a request.

use callboard_core::{Call, Endpoint};
use http::uri::PathAndQuery;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};
use tonic::Status;

use super::credentials::RequestInfo;
use super::deadline::Deadline;
use super::defaults::Defaults;
use super::hop::{self, PREVIOUS_ATTEMPTS};

/// A request's head, ready to be sent.
#[derive(Debug)]
pub(crate) struct Head {
    request: Request<()>,
    extensions: Extensions,
}

/// What is kept of a head that was sent, so that it can be sent again.
#[derive(Debug)]
pub(crate) struct Kept {
    method: Method,
    uri: Uri,
    headers: Headers,
    extensions: Extensions,
}

/// A copy of headers that is cheaper than a second map.
#[derive(Debug)]
enum Headers {
    /// Exactly the headers that every call has.
    Plain,
    Listed(Vec<(HeaderName, HeaderValue)>),
}

impl Head {
    /// Completes what the generated client leaves open: scheme and authority, unless it was made `with_origin`, and the
    /// user agent. Removes fields that only the channel may set, because a gateway passes metadata on.
    pub(crate) fn new(mut request: Request<()>, defaults: &Defaults) -> Result<Self, Status> {
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.scheme.get_or_insert_with(|| defaults.scheme.clone());
        uri.authority.get_or_insert_with(|| defaults.authority.clone());
        uri.path_and_query.get_or_insert_with(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from_parts(uri)
            .map_err(|error| Status::internal(format!("the request's URI cannot be completed: {error}")))?;
        *request.version_mut() = http::Version::HTTP_2;
        defaults.sign(request.headers_mut());
        if request.headers().len() > defaults.plain.len() {
            hop::strip_request(request.headers_mut(), &defaults.own_fields);
        }
        let extensions = std::mem::take(request.extensions_mut());
        Ok(Self { request, extensions })
    }

    /// The view of it for a picker.
    pub(crate) fn call(&self) -> Call<'_> {
        Call::new(self.request.uri().path(), self.request.headers(), &self.extensions)
    }

    pub(crate) fn path(&self) -> &str {
        self.request.uri().path()
    }

    /// Describes its first attempt at an endpoint, for the call credentials.
    pub(crate) fn described<'a>(&'a self, endpoint: &'a Endpoint, defaults: &'a Defaults) -> RequestInfo<'a> {
        let authority = self.request.uri().authority().unwrap_or(&defaults.authority);
        RequestInfo { call: self.call(), authority, endpoint, number: 1, time_left: None }
    }

    pub(crate) fn extension<T: Clone + Send + Sync + 'static>(&self) -> Option<&T> {
        self.extensions.get()
    }

    /// The head of one attempt, with the time that is left, the number of previous attempts and the balancer's
    /// metadata; and what another attempt needs.
    pub(crate) fn attempt(
        self,
        deadline: Option<&Deadline>,
        previous: Option<u32>,
        added: Option<&HeaderMap>,
        defaults: &Defaults,
    ) -> (Request<()>, Kept) {
        let Self { mut request, extensions } = self;
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let headers = Headers::of(request.headers(), defaults);
        if let Some(deadline) = deadline {
            let (name, value) = deadline.header();
            request.headers_mut().insert(name, value);
        }
        if let Some(previous) = previous {
            request.headers_mut().insert(PREVIOUS_ATTEMPTS, previous.into());
        }
        for (name, value) in added.into_iter().flatten() {
            request.headers_mut().insert(name, value.clone());
        }
        (request, Kept { method, uri, headers, extensions })
    }
}

impl Kept {
    pub(crate) fn path(&self) -> &str {
        self.uri.path()
    }

    pub(crate) fn extension<T: Clone + Send + Sync + 'static>(&self) -> Option<&T> {
        self.extensions.get()
    }

    /// The head as it was before the attempt.
    pub(crate) fn restored(self, defaults: &Defaults) -> Head {
        let mut request = Request::new(());
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri;
        *request.version_mut() = http::Version::HTTP_2;
        *request.headers_mut() = match self.headers {
            Headers::Plain => defaults.plain.clone(),
            Headers::Listed(headers) => headers.into_iter().collect(),
        };
        Head { request, extensions: self.extensions }
    }

    /// The request's extensions, emptied, to reuse their allocation for the response.
    pub(crate) fn into_room(self) -> Extensions {
        let mut extensions = self.extensions;
        extensions.clear();
        extensions
    }
}

impl Headers {
    fn of(headers: &HeaderMap, defaults: &Defaults) -> Self {
        // Header maps iterate in the order of insertion, which is the same for all clients.
        if headers.len() == defaults.plain.len() && headers.iter().eq(defaults.plain.iter()) {
            return Self::Plain;
        }
        Self::Listed(headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect())
    }
}

#[cfg(test)]
mod tests {
    use http::uri::{Authority, Scheme};

    use super::*;

    fn defaults() -> Defaults {
        Defaults {
            own_fields: vec![],
            scheme: Scheme::HTTP,
            authority: Authority::from_static("project.test"),
            plain: Defaults::plain_headers(HeaderValue::from_static("callboard")),
            timeout: None,
            wait_for_ready: false,
            several_connections: false,
            max_waiting_calls: None,
            backpressure: false,
            retry_buffer: 0,
            credentials: None,
        }
    }

    /// Sends a head twice: both attempts are alike. Returns the second, and what was kept of it.
    fn twice(request: http::request::Builder) -> (Request<()>, Kept) {
        let head = Head::new(request.body(()).expect("a request"), &defaults()).expect("a head");
        let (first, kept) = head.attempt(None, None, None, &defaults());
        let (second, kept) = kept.restored(&defaults()).attempt(None, Some(1), None, &defaults());
        assert_eq!(second.headers().get(PREVIOUS_ATTEMPTS).map(HeaderValue::as_bytes), Some(&b"1"[..]));
        let mut second = second;
        second.headers_mut().remove(PREVIOUS_ATTEMPTS);
        assert_eq!(first.headers(), second.headers());
        assert_eq!((first.uri(), first.method()), (second.uri(), second.method()));
        (second, kept)
    }

    #[test]
    fn a_restored_head_is_as_it_was() {
        let (request, kept) = twice(Request::post("/s/m").header("a", "1").header("b", "2").header("a", "3"));
        assert_eq!(request.headers().get_all("a").iter().collect::<Vec<_>>(), ["1", "3"]);
        assert_eq!(request.headers()["user-agent"], "callboard");
        assert_eq!(request.uri(), "http://project.test/s/m");
        assert!(matches!(kept.headers, Headers::Listed(_)), "{kept:?}");
    }

    #[test]
    fn a_head_without_metadata_is_not_copied() {
        let bare = || Request::post("/s/m").header("te", "trailers").header("content-type", "application/grpc");
        let (request, kept) = twice(bare());
        assert_eq!(request.headers(), &defaults().plain);
        assert!(matches!(kept.headers, Headers::Plain), "{kept:?}");
        for other in [bare().header("a", "1"), bare().header("user-agent", "other"), bare().header("te", "trailers")] {
            assert!(matches!(twice(other).1.headers, Headers::Listed(_)));
        }
    }
}
