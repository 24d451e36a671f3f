//! Looking for one header field.

use http::{HeaderMap, HeaderName, HeaderValue};

/// A field's value, the first if there are several. Found by going through all: there are few, and to hash the name takes
/// longer.
pub(crate) fn field<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
}
