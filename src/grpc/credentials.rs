//! gRPC's call credentials: metadata that a user's code adds to each attempt of a call.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard_core::{Call, Endpoint};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, header};
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::status;

/// Provides metadata for each attempt of a call, such as a fresh token: grpc-go's `PerRPCCredentials`.
///
/// Given to a channel by [`ChannelBuilder::call_credentials`](crate::ChannelBuilder::call_credentials). An interceptor
/// runs once for a call. Credentials are asked for every attempt, retries included, once its endpoint is chosen.
///
/// The future runs on the task that polls the call, within the call's deadline. At the deadline it is dropped, and the
/// call ends with `DEADLINE_EXCEEDED`. The attempt occupies a stream of the connection meanwhile. So cache a token
/// while it is valid, and let calls share one request for the next one. The channel caches nothing.
///
/// The metadata replaces what the request has under the same names. Names that gRPC or HTTP/2 reserve (`grpc-…`, `te`,
/// `content-type`, `user-agent`, `lb-token`) fail the attempt with `INTERNAL`. The values are marked as sensitive: they
/// are not printed, and not put into the connection's compression table.
///
/// An error ends the attempt, which is not sent, and the call, unless the service's retry policy lists its code. The
/// codes are those that gRPC's A54 permits beside servers: CANCELLED, UNKNOWN, DEADLINE_EXCEEDED, PERMISSION_DENIED,
/// RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED; any other becomes INTERNAL. When in
/// doubt, use UNAUTHENTICATED, as grpc-go does, or UNAVAILABLE for what another attempt may cure.
///
/// ```
/// use callboard::{RequestInfo, CallCredentials};
/// use tonic::Status;
/// use tonic::metadata::MetadataMap;
///
/// struct Tokens;
///
/// # impl Tokens { async fn fresh(&self, _: &str) -> std::io::Result<String> { Ok("secret".to_owned()) } }
/// #[async_trait::async_trait]
/// impl CallCredentials for Tokens {
///     async fn metadata(&self, attempt: &RequestInfo<'_>) -> Result<MetadataMap, Status> {
///         let unavailable = |error| Status::unavailable(format!("no token: {error}"));
///         let token = self.fresh(&attempt.service_url()).await.map_err(unavailable)?;
///         let mut metadata = MetadataMap::new();
///         let value = format!("Bearer {token}").parse();
///         metadata.insert("authorization", value.map_err(|_| Status::unauthenticated("the token is no header value"))?);
///         Ok(metadata)
///     }
/// }
/// # let _ = |builder: callboard::ChannelBuilder| builder.call_credentials(Tokens);
/// ```
#[async_trait]
pub trait CallCredentials: Send + Sync + 'static {
    /// Returns the metadata for this attempt.
    ///
    /// # Errors
    /// The status that the attempt ends with; see above.
    ///
    /// # Cancel safety
    /// The future is dropped at the call's deadline, and when the call is cancelled.
    async fn metadata(&self, attempt: &RequestInfo<'_>) -> Result<MetadataMap, Status>;

    /// Whether the metadata may be sent over TLS only. True, unless overridden; then building a channel without TLS
    /// fails.
    fn requires_tls(&self) -> bool {
        true
    }
}

/// The attempt that [credentials](CallCredentials) are asked for.
#[derive(Clone, Copy, Debug)]
pub struct RequestInfo<'a> {
    pub(crate) call: Call<'a>,
    pub(crate) authority: &'a Authority,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) number: u32,
    pub(crate) time_left: Option<Duration>,
}

impl<'a> RequestInfo<'a> {
    /// Path, metadata and extensions of the call. A caller can pass a value to the credentials in the request's
    /// extensions, such as the user that it calls for.
    pub fn call(&self) -> Call<'a> {
        self.call
    }

    /// The `:authority` of the request.
    pub fn authority(&self) -> &'a str {
        self.authority.as_str()
    }

    /// The audience of a token, as gRPC defines it: `https://authority/package.Service`, without the port 443 and the
    /// method.
    pub fn service_url(&self) -> String {
        let (authority, path) = (self.authority.as_str(), self.call.path());
        let service = path.rfind('/').map_or(path, |slash| &path[..slash]);
        format!("https://{}{service}", authority.strip_suffix(":443").unwrap_or(authority))
    }

    /// The endpoint that was chosen.
    pub fn endpoint(&self) -> &'a Endpoint {
        self.endpoint
    }

    /// The number of the attempt, from 1.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The time until the call's deadline. None if it has none.
    pub fn time_left(&self) -> Option<Duration> {
        self.time_left
    }
}

/// A channel's credentials. `Debug` does not print them.
#[derive(Clone)]
pub(crate) struct Credentials(pub(crate) Arc<dyn CallCredentials>);

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CallCredentials(..)")
    }
}

/// Asks for the metadata of this attempt, and checks it: reserved names and the channel's own fields are not permitted.
pub(crate) async fn of_attempt(
    credentials: &Credentials,
    info: &RequestInfo<'_>,
    own: &[HeaderName],
) -> Result<HeaderMap, Status> {
    let given = credentials.0.metadata(info).await;
    given.map_err(|status| refused(&status)).and_then(|given| checked(given, own))
}

fn refused(status: &Status) -> Status {
    let (code, message) = (status::from_tonic(status.code()), status.message());
    match status::is_for_servers_alone(code) {
        true => Status::internal(format!("the call credentials failed with {code:?}, which is for servers: {message}")),
        false => Status::new(status.code(), format!("the call credentials failed: {message}")),
    }
}

fn checked(given: MetadataMap, own: &[HeaderName]) -> Result<HeaderMap, Status> {
    let mut headers = given.into_headers();
    if let Some(name) = headers.keys().find(|name| is_reserved(name) || own.contains(name)) {
        return Err(Status::internal(format!("the call credentials gave {name}, which they may not set")));
    }
    headers.values_mut().for_each(|value| value.set_sensitive(true));
    Ok(headers)
}

fn is_reserved(name: &HeaderName) -> bool {
    const RESERVED: [HeaderName; 3] = [header::TE, header::CONTENT_TYPE, header::USER_AGENT];
    RESERVED.contains(name) || name.as_str().starts_with("grpc-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_they_give_is_not_printed() {
        let mut given = MetadataMap::new();
        given.insert("authorization", "Bearer hunter2".parse().expect("a value"));
        let headers = checked(given, &[]).expect("they may set it");
        assert_eq!(headers["authorization"], "Bearer hunter2");
        assert!(!format!("{headers:?}").contains("hunter2"), "{headers:?}");
    }
}
