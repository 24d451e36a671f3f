//! Durations as protobuf's JSON writes them.

use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// The most that protobuf allows: 10,000 years.
const MOST: u64 = 315_576_000_000;

/// Reads a duration as protobuf's JSON writes it, and so gRPC's service config: seconds with up to nine decimals and an
/// `s`, such as `10s` or `0.5s`. None if it is something else, negative, or longer than 10,000 years.
/// Either side of the point may be empty, `.5s` or `5.s`, as grpc-go reads it.
///
/// ```
/// use std::time::Duration;
///
/// assert_eq!(callboard_core::proto_duration("0.5s"), Some(Duration::from_millis(500)));
/// assert_eq!(callboard_core::proto_duration("500ms"), None);
/// ```
pub fn proto_duration(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str, most| text.len() <= most && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole, 12) || !digits(decimals, 9) || whole.len() + decimals.len() == 0 {
        return None;
    }
    // Without a digit it is 0.
    let duration = Duration::new(format!("0{whole}").parse().ok()?, format!("{decimals:0<9}").parse().ok()?);
    (duration <= Duration::from_secs(MOST)).then_some(duration)
}

/// [`proto_duration`] for serde's `deserialize_with`.
///
/// # Errors
/// The deserializer's own, if it is no text or no such duration. The message quotes it.
pub fn deserialize_proto_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    proto_duration(&text)
        .ok_or_else(|| D::Error::custom(format!("{text:?} is no length of time such as \"10s\" or \"0.5s\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_with_up_to_nine_decimals_are_read_and_nothing_else() {
        let plain = [("0s", 0), ("10s", 10_000_000_000), ("0.5s", 500_000_000), ("1.000000001s", 1_000_000_001)];
        let as_in_go = [(".01s", 10_000_000), ("1.s", 1_000_000_000), ("007s", 7_000_000_000)];
        for (text, nanos) in plain.into_iter().chain(as_in_go) {
            assert_eq!(proto_duration(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
        assert_eq!(proto_duration("315576000000s"), Some(Duration::from_secs(MOST)));
        for text in
            ["", "s", ".s", "1", "-1s", "+1s", "1.2.3s", "1.0000000001s", "1ms", "1 s", "1e3s", "315576000001s", "١s"]
        {
            assert_eq!(proto_duration(text), None, "{text}");
        }
    }
}
