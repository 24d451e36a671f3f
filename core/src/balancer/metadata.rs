//! Metadata that a pick adds to its call.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::{Error, Result};

/// Metadata that a balancer adds to the calls that it picks for: to the request, for the server, and to the response,
/// for the caller.
///
/// A picker makes it once and returns the same `Arc` for many calls. An entry replaces what the request, or the
/// response, has under the same name.
///
/// ```
/// use callboard_core::CallMetadata;
/// use http::{HeaderName, HeaderValue};
///
/// let token = HeaderName::from_static("lb-token");
/// let metadata = CallMetadata::new().request(token.clone(), HeaderValue::from_static("7"))?;
/// assert_eq!(metadata.for_request()[&token], "7");
/// assert!(CallMetadata::new().request(HeaderName::from_static("grpc-timeout"), HeaderValue::from_static("1S")).is_err());
/// # Ok::<(), callboard_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CallMetadata {
    request: HeaderMap,
    response: HeaderMap,
}

impl CallMetadata {
    /// Empty metadata.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an entry for the server.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), if the name is gRPC's own, or not for metadata.
    pub fn request(mut self, name: HeaderName, value: HeaderValue) -> Result<Self> {
        check(&name)?;
        self.request.insert(name, value);
        Ok(self)
    }

    /// Adds an entry for the caller, in the head of the response.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), if the name is gRPC's own, or not for metadata.
    pub fn response(mut self, name: HeaderName, value: HeaderValue) -> Result<Self> {
        check(&name)?;
        self.response.insert(name, value);
        Ok(self)
    }

    /// The entries for the server.
    pub fn for_request(&self) -> &HeaderMap {
        &self.request
    }

    /// The entries for the caller.
    pub fn for_response(&self) -> &HeaderMap {
        &self.response
    }
}

fn check(name: &HeaderName) -> Result<()> {
    const RESERVED: [&str; 7] =
        ["te", "content-type", "user-agent", "connection", "transfer-encoding", "host", "upgrade"];
    if RESERVED.contains(&name.as_str()) || name.as_str().starts_with("grpc-") {
        return Err(Error::invalid(format!("metadata {name}: a balancer cannot set it")));
    }
    Ok(())
}
