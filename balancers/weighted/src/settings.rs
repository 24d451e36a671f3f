//! The settings of `weighted_round_robin`.

use std::time::Duration;

use callboard_core::deserialize_proto_duration;
use serde::{Deserialize, Deserializer, de};

/// The settings of [`WeightedRoundRobin`](crate::WeightedRoundRobin): gRPC's, with gRPC's names and defaults.
///
/// It deserializes from the JSON of gRPC's service config: names in camel case, durations as text in seconds. Absent
/// fields have their defaults, and unknown fields are ignored. Fields may be added later, so in code make it from the
/// default.
///
/// ```
/// use std::time::Duration;
/// use callboard_weighted::WeightedRoundRobinSettings;
///
/// let json = r#"{"enableOobLoadReport": true, "oobReportingPeriod": "30s"}"#;
/// let read: WeightedRoundRobinSettings = serde_json::from_str(json)?;
///
/// let mut made = WeightedRoundRobinSettings::default();
/// made.enable_oob_load_report = true;
/// made.oob_reporting_period = Duration::from_secs(30);
/// assert_eq!(read, made);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WeightedRoundRobinSettings {
    /// Whether endpoints are asked to report out of band. Then only out-of-band reports are used; otherwise only those
    /// of responses. False by default.
    pub enable_oob_load_report: bool,
    /// How often they are asked to report out of band. A server may report less often: gRPC's servers report at most
    /// every 30 s, unless configured otherwise. 10 s by default.
    #[serde(deserialize_with = "deserialize_proto_duration")]
    pub oob_reporting_period: Duration,
    /// How long an endpoint must have reported, since it became ready or since its weight expired, before its weight is
    /// used. 10 s by default.
    #[serde(deserialize_with = "deserialize_proto_duration")]
    pub blackout_period: Duration,
    /// How long a weight is used that no report has renewed. 3 min by default.
    #[serde(deserialize_with = "deserialize_proto_duration")]
    pub weight_expiration_period: Duration,
    /// How often weights take effect. 1 s by default; less than 100 ms counts as that.
    #[serde(deserialize_with = "deserialize_proto_duration")]
    pub weight_update_period: Duration,
    /// The penalty for errors: this times the share of requests that ended with an error is added to the utilisation. 0
    /// or more; 1 by default.
    #[serde(deserialize_with = "penalty")]
    pub error_utilization_penalty: f64,
}

impl Default for WeightedRoundRobinSettings {
    fn default() -> Self {
        Self {
            enable_oob_load_report: false,
            oob_reporting_period: Duration::from_secs(10),
            blackout_period: Duration::from_secs(10),
            weight_expiration_period: Duration::from_secs(180),
            weight_update_period: Duration::from_secs(1),
            error_utilization_penalty: 1.0,
        }
    }
}

/// The error of an invalid penalty.
pub(crate) fn bad_penalty(penalty: f64) -> Option<String> {
    let good = penalty.is_finite() && penalty >= 0.0;
    (!good).then(|| format!("errorUtilizationPenalty {penalty}: it must be 0 or more"))
}

fn penalty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let penalty = f64::deserialize(deserializer)?;
    bad_penalty(penalty).map_or(Ok(penalty), |error| Err(de::Error::custom(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<WeightedRoundRobinSettings, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_grpcs_and_unknown_fields_are_ignored() {
        let defaults = WeightedRoundRobinSettings::default();
        assert_eq!(read("{}"), Ok(defaults.clone()));
        assert_eq!(read(r#"{"slowStartConfig": {"window": "3s"}}"#), Ok(defaults));
    }

    #[test]
    fn every_field_is_read() {
        let json = r#"{"enableOobLoadReport": true, "oobReportingPeriod": "1s", "blackoutPeriod": "0s",
            "weightExpirationPeriod": "60s", "weightUpdatePeriod": "0.5s", "errorUtilizationPenalty": 2}"#;
        let expected = WeightedRoundRobinSettings {
            enable_oob_load_report: true,
            oob_reporting_period: Duration::from_secs(1),
            blackout_period: Duration::ZERO,
            weight_expiration_period: Duration::from_secs(60),
            weight_update_period: Duration::from_millis(500),
            error_utilization_penalty: 2.0,
        };
        assert_eq!(read(json), Ok(expected));
    }

    #[test]
    fn a_bad_value_is_named() {
        for (json, named) in [
            (r#"{"blackoutPeriod": "10"}"#, "\"10\""),
            (r#"{"blackoutPeriod": "-1s"}"#, "\"-1s\""),
            (r#"{"weightUpdatePeriod": 1}"#, "integer `1`"),
            (r#"{"errorUtilizationPenalty": -0.5}"#, "errorUtilizationPenalty -0.5"),
            (r#"{"enableOobLoadReport": "yes"}"#, "\"yes\""),
        ] {
            let error = read(json).expect_err(json);
            assert!(error.contains(named), "{json}: {error}");
        }
    }
}
