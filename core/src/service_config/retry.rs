//! Retries in a service config: gRPC's A6.

use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::codes::FailureCode;
use crate::Code;
use crate::proto_duration::deserialize_proto_duration;

/// The most attempts. A larger number counts as this.
const MOST_ATTEMPTS: u64 = 5;

/// When and how often a failed call is sent again: gRPC's A6.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// How often a call is sent, the first time included: 2 to 5. A larger number in the config counts as 5.
    pub max_attempts: u32,
    /// The wait before the second attempt, ±20 %. Above 0.
    pub initial_backoff: Duration,
    /// The longest wait. Above 0.
    pub max_backoff: Duration,
    /// By how much each wait is longer than the one before. Above 0.
    pub backoff_multiplier: f64,
    /// The statuses after which a call is retried. At least one.
    pub retryable_codes: Vec<Code>,
}

/// A bucket of tokens that stops retries while too many calls fail. A failure takes one token, and a success puts back
/// `token_ratio`. While half of them or fewer are left, calls are not retried.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryThrottling {
    /// The number of tokens at the beginning, which is also the most: above 0, up to 1000.
    pub max_tokens: f64,
    /// How many tokens a success puts back: above 0, with three decimals, as in gRPC.
    pub token_ratio: f64,
}

impl RetryPolicy {
    /// A policy with these bounds, for tests and for what reads a config.
    pub fn new(
        max_attempts: u32,
        initial_backoff: Duration,
        max_backoff: Duration,
        backoff_multiplier: f64,
        retryable_codes: Vec<Code>,
    ) -> Self {
        Self { max_attempts, initial_backoff, max_backoff, backoff_multiplier, retryable_codes }
    }
}

impl RetryThrottling {
    /// A bucket of so many tokens.
    pub fn new(max_tokens: f64, token_ratio: f64) -> Self {
        Self { max_tokens, token_ratio }
    }
}

/// `retryPolicy` as it is in the config. All of its fields are required.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Policy {
    max_attempts: Attempts,
    initial_backoff: Wait,
    max_backoff: Wait,
    backoff_multiplier: Factor,
    retryable_status_codes: Codes,
    /// Only whether it is there: it is not acted on.
    per_attempt_recv_timeout: Option<IgnoredAny>,
}

impl Policy {
    /// Whether it limits each attempt, which is not obeyed.
    pub(super) fn bounds_each_attempt(&self) -> bool {
        self.per_attempt_recv_timeout.is_some()
    }
}

impl From<Policy> for RetryPolicy {
    fn from(policy: Policy) -> Self {
        Self {
            max_attempts: policy.max_attempts.0,
            initial_backoff: policy.initial_backoff.0,
            max_backoff: policy.max_backoff.0,
            backoff_multiplier: policy.backoff_multiplier.0,
            retryable_codes: policy.retryable_status_codes.0,
        }
    }
}

/// `retryThrottling` as it is in the config.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Throttling {
    max_tokens: Tokens,
    token_ratio: Ratio,
}

impl From<Throttling> for RetryThrottling {
    fn from(throttling: Throttling) -> Self {
        Self { max_tokens: throttling.max_tokens.0, token_ratio: throttling.token_ratio.0 }
    }
}

// Each value is a type of its own, so that an error is raised where its field is read, and names it.

#[derive(Deserialize)]
#[serde(try_from = "u64")]
struct Attempts(u32);

impl TryFrom<u64> for Attempts {
    type Error = String;

    fn try_from(attempts: u64) -> Result<Self, String> {
        match attempts.min(MOST_ATTEMPTS) {
            attempts @ 2.. => Ok(Self(attempts as u32)),
            attempts => Err(format!("{attempts} attempts leave none to retry with: at least 2 are needed")),
        }
    }
}

struct Wait(Duration);

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wait = deserialize_proto_duration(deserializer)?;
        if wait.is_zero() { Err(serde::de::Error::custom("a backoff is above 0")) } else { Ok(Self(wait)) }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "f64")]
struct Factor(f64);

impl TryFrom<f64> for Factor {
    type Error = String;

    fn try_from(factor: f64) -> Result<Self, String> {
        if factor > 0.0 { Ok(Self(factor)) } else { Err(format!("{factor} is not above 0")) }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "Vec<FailureCode>")]
struct Codes(Vec<Code>);

impl TryFrom<Vec<FailureCode>> for Codes {
    type Error = &'static str;

    fn try_from(codes: Vec<FailureCode>) -> Result<Self, &'static str> {
        if codes.is_empty() {
            return Err("at least one status code is needed");
        }
        Ok(Self(codes.into_iter().map(|FailureCode(code)| code).collect()))
    }
}

#[derive(Deserialize)]
#[serde(try_from = "f64")]
struct Tokens(f64);

impl TryFrom<f64> for Tokens {
    type Error = String;

    fn try_from(tokens: f64) -> Result<Self, String> {
        let fits = tokens > 0.0 && tokens <= 1000.0;
        if fits { Ok(Self(tokens)) } else { Err(format!("{tokens} is not above 0 and up to 1000")) }
    }
}

/// In thousandths. Further decimals are cut off.
#[derive(Deserialize)]
#[serde(try_from = "f64")]
struct Ratio(f64);

impl TryFrom<f64> for Ratio {
    type Error = String;

    fn try_from(ratio: f64) -> Result<Self, String> {
        // Many a decimal fraction is a little less in binary: 0.029 is 28.99… thousandths.
        let thousandths = (ratio * 1000.0 + 1e-6).floor();
        if thousandths > 0.0 { Ok(Self(thousandths / 1000.0)) } else { Err(format!("{ratio} is not at least 0.001")) }
    }
}
