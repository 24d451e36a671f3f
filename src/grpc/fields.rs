//! Looking up one header field.

use http::{HeaderMap, HeaderName, HeaderValue};

/// A field's first value. Found by a linear search: there are few fields, and hashing the name takes longer.
pub(crate) fn field<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
}
