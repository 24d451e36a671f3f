//! What is said from one hop to the next, and no further.
//!
//! A gateway hands on what it was asked with and what it was answered. What its channel has acted on itself must not be
//! among that: its own callers would take the load and the waits of the server behind it for its own, and the server
//! behind it would take attempts and tokens that were meant for the gateway for this call's.

use http::{HeaderMap, HeaderName};

use callboard_protocols::orca::LOAD_METRICS;

/// What a server says about the next attempt, in a response that is all headers.
pub(crate) const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// Tells a server which attempt it sees: how many have failed.
pub(crate) const PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// Removes what the server has told the channel, from a response's head or its trailers.
pub(crate) fn strip_response(fields: &mut HeaderMap) {
    strip(fields, &[LOAD_METRICS, PUSHBACK]);
}

/// Removes what only the channel may tell the server, from a request's head. `own` are fields of the channel's balancer.
pub(crate) fn strip_request(fields: &mut HeaderMap, own: &[HeaderName]) {
    strip(fields, &[PREVIOUS_ATTEMPTS]);
    strip(fields, own);
}

fn strip(fields: &mut HeaderMap, names: &[HeaderName]) {
    // By going through all: there are few, nearly always none of these, and to hash the names takes longer.
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
        assert_eq!(fields.keys().collect::<Vec<_>>(), [own.clone()]);
        strip_request(&mut fields, &[own]);
        assert!(fields.is_empty(), "{fields:?}");
    }
}
