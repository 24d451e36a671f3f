//! Header fields that are meant for one hop only.
//!
//! A gateway passes on the metadata of requests and responses. Fields that its channel has acted on itself must not be
//! among them. Otherwise the gateway's callers would take the load and the pushback of the server behind it for the
//! gateway's own, and that server would take attempts and tokens meant for the gateway as those of this call.

use http::{HeaderMap, HeaderName};

use callboard_protocols::orca::LOAD_METRICS;

/// A server's pushback about the next attempt, in a response of headers alone.
pub(crate) const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// The number of previous attempts, for the server.
pub(crate) const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// Removes the fields for the channel from a response's head or trailers.
pub(crate) fn strip_response(fields: &mut HeaderMap) {
    strip(fields, &[LOAD_METRICS, PUSHBACK]);
}

/// Removes the fields that only the channel may set from a request's head. `own` are fields of the channel's balancer.
pub(crate) fn strip_request(fields: &mut HeaderMap, own: &[HeaderName]) {
    strip(fields, &[PREVIOUS_ATTEMPTS]);
    strip(fields, own);
}

fn strip(fields: &mut HeaderMap, names: &[HeaderName]) {
    // A linear search first: there are few fields, nearly always none of these, and hashing the names takes longer.
    if fields.keys().any(|name| names.contains(name)) {
        names.iter().for_each(|name| drop(fields.remove(name)));
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn all_values_of_a_field_are_removed_and_others_stay() {
        let own = HeaderName::from_static("lb-token");
        let fields = [(PUSHBACK, "1"), (own.clone(), "t"), (PUSHBACK, "2"), (LOAD_METRICS, "l")];
        let mut fields: HeaderMap =
            fields.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect();
        strip_response(&mut fields);
        assert_eq!(fields.keys().collect::<Vec<_>>(), [&own]);
        strip_request(&mut fields, &[own]);
        assert!(fields.is_empty(), "{fields:?}");
    }
}
