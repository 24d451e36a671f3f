//! A server's pushback: its wish about the next attempt.

use std::time::Duration;

use http::HeaderMap;

use crate::grpc::PUSHBACK;

/// The longest wait that a server may ask for: the longest backoff of gRPC. A longer one counts as "no further
/// attempt". Otherwise a server could make a call without a deadline wait for any time.
const LONGEST_PUSHBACK: Duration = Duration::from_secs(120);

/// What the server asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::call) enum Pushback {
    /// It has sent no pushback.
    Unsaid,
    /// The next attempt after this time.
    After(Duration),
    /// No further attempt.
    Stop,
}

impl Pushback {
    pub(in crate::call) fn of(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(&PUSHBACK).iter();
        let Some(value) = values.next() else { return Self::Unsaid };
        // A6: "signed 32-bit integer".
        let millis = value.to_str().ok().and_then(|text| text.parse::<i32>().ok());
        let wait = millis.and_then(|millis| u64::try_from(millis).ok()).map(Duration::from_millis);
        match (wait, values.next()) {
            (Some(wait), None) if wait <= LONGEST_PUSHBACK => Self::After(wait),
            // A negative number, no 32-bit integer, or several values: gRPC takes each as "no further attempt".
            _ => Self::Stop,
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_a_server_says_is_read_as_grpc_reads_it() {
        let says = |values: &[&str]| {
            let fields = values.iter().map(|value| (PUSHBACK, HeaderValue::from_str(value).expect("a header value")));
            Pushback::of(&fields.collect())
        };
        assert_eq!(says(&[]), Pushback::Unsaid);
        assert_eq!(says(&["0"]), Pushback::After(Duration::ZERO));
        assert_eq!(says(&["1500"]), Pushback::After(Duration::from_millis(1_500)));
        assert_eq!(says(&["120000"]), Pushback::After(LONGEST_PUSHBACK));
        for stop in [&["-1"][..], &[""], &["soon"], &["1.5"], &["99999999999999999999"], &["1", "1"], &["\u{ff}"]] {
            assert_eq!(says(stop), Pushback::Stop, "{stop:?}");
        }
        for stop in [&["9223372036854775807"], &["2147483648"], &["2147483647"], &["120001"], &["-2147483649"]] {
            assert_eq!(says(stop), Pushback::Stop, "{stop:?}");
        }
    }
}
