//! The balancer that weighs endpoints by their load reports.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Balancer, Call, Endpoint, Error, Member, Members, Outcome, Pick, Picker, Result};

use crate::WeightedRoundRobinSettings;
use crate::measured::Measured;
use crate::picker::Walk;
use crate::scale::scaled;
use crate::settings::bad_penalty;

/// The shortest time between two pickers.
const SHORTEST_UPDATE: Duration = Duration::from_millis(100);

/// Sends calls to the ready endpoints in turn, each as often as its load reports permit: gRPC's `weighted_round_robin`
/// (gRFC A58).
///
/// All endpoints are connected. The weight of an endpoint is the requests per second that it reports, divided by its
/// utilisation plus the share of errors times a [penalty](WeightedRoundRobinSettings::error_utilization_penalty): what
/// it could serve at full utilisation. The application's utilisation is used, or else the CPU's. A report without
/// utilisation or without requests is ignored.
///
/// A weight is used once an endpoint has reported for the [blackout
/// period](WeightedRoundRobinSettings::blackout_period), and until no report has renewed it for the [expiration
/// period](WeightedRoundRobinSettings::weight_expiration_period). An endpoint without a usable weight has the mean of
/// the others. If fewer than two endpoints have a usable weight, all are equal. Weights are limited to between a
/// hundredth of the mean and ten times the mean: an endpoint without calls could not report that it has recovered.
///
/// The result is multiplied by the weight in the registry: an endpoint of weight 3 gets three times the calls that its
/// reports give it, and one of weight 0 none, unless all have 0. Picks are as smooth and as cheap as those of
/// [`Weighted`](crate::Weighted).
#[derive(Clone, Debug, Default)]
pub struct WeightedRoundRobin {
    settings: WeightedRoundRobinSettings,
}

impl WeightedRoundRobin {
    /// The balancer with gRPC's defaults: it uses the load reports of responses.
    pub fn new() -> Self {
        Self::default()
    }

    /// The balancer with settings.
    ///
    /// # Errors
    /// [`Invalid`](callboard_core::ErrorKind::Invalid) if the penalty for errors is negative or not a number.
    pub fn with_settings(settings: WeightedRoundRobinSettings) -> Result<Self> {
        match bad_penalty(settings.error_utilization_penalty) {
            None => Ok(Self { settings }),
            Some(error) => Err(Error::invalid(format!("weighted_round_robin: {error}"))),
        }
    }
}

impl Balancer for WeightedRoundRobin {
    fn name(&self) -> &str {
        "weighted_round_robin"
    }

    fn picker(&self, members: &Members) -> Box<dyn Picker> {
        let ready = members.ready().iter();
        let endpoints: BTreeMap<_, _> = ready
            .map(|member| (*member, (members[*member].clone(), members[*member].attribute::<Measured>())))
            .collect();
        if self.settings.enable_oob_load_report {
            for (endpoint, measured) in endpoints.values() {
                if let Some(load) = endpoint.out_of_band_load() {
                    measured.note(endpoint, &load, &self.settings);
                }
            }
        }
        let measured: Vec<_> =
            endpoints.values().map(|(endpoint, measured)| measured.weight(endpoint, &self.settings)).collect();
        let walk = match scaled(members, &measured) {
            Some(weights) => Walk::with_weights(members, weights),
            None => Walk::new(members),
        };
        Box::new(Weighing { walk, endpoints, settings: self.settings.clone() })
    }

    fn refresh_interval(&self) -> Option<Duration> {
        Some(self.settings.weight_update_period.max(SHORTEST_UPDATE))
    }

    fn oob_report_interval(&self) -> Option<Duration> {
        self.settings.enable_oob_load_report.then_some(self.settings.oob_reporting_period)
    }
}

/// A walk that notes the load reports of responses, for the pickers after it.
#[derive(Debug)]
struct Weighing {
    walk: Walk,
    endpoints: BTreeMap<Member, (Endpoint, Arc<Measured>)>,
    settings: WeightedRoundRobinSettings,
}

impl Picker for Weighing {
    fn pick(&self, call: &Call<'_>) -> Pick {
        self.walk.pick(call)
    }

    fn done(&self, picked: Member, outcome: &Outcome) {
        if let Some(load) = &outcome.load
            && !self.settings.enable_oob_load_report
            && let Some((endpoint, measured)) = self.endpoints.get(&picked)
        {
            measured.note(endpoint, load, &self.settings);
        }
    }
}

#[cfg(test)]
mod tests;
