//! The balancer that weighs endpoints by what they report of their load.

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

/// Sends calls to the ready endpoints in turn, each as often as the load that it reports permits: gRPC's
/// `weighted_round_robin` (gRFC A58).
///
/// All endpoints are connected. The weight of one is the requests per second that it reports, divided by its utilisation
/// plus the share of errors times a [penalty](WeightedRoundRobinSettings::error_utilization_penalty): what it would serve
/// at full utilisation. Its application's utilisation counts, or else its CPU's. A report without utilisation or without
/// requests is ignored.
///
/// A weight counts once an endpoint has reported for the [blackout period](WeightedRoundRobinSettings::blackout_period),
/// and until nothing has renewed it for the [expiration period](WeightedRoundRobinSettings::weight_expiration_period). An
/// endpoint whose weight does not count has the mean of the others'. As long as fewer than two have one that counts, all
/// are alike. No weight counts as less than a hundredth of the mean, or more than ten times: an endpoint without a call
/// could not report that it is better.
///
/// The weight in the registry multiplies: an endpoint of weight 3 gets three times the calls that its reports give it, and
/// one of weight 0 none, unless all have 0. Picks are as smooth and as cheap as [`Weighted`](crate::Weighted)'s.
#[derive(Clone, Debug, Default)]
pub struct WeightedRoundRobin {
    settings: WeightedRoundRobinSettings,
}

impl WeightedRoundRobin {
    /// The balancer with gRPC's defaults: it goes by what responses report.
    pub fn new() -> Self {
        Self::default()
    }

    /// The balancer with settings.
    ///
    /// # Errors
    /// [`Invalid`](callboard_core::ErrorKind::Invalid) if the penalty for errors is negative or no number.
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

/// A walk that notes what responses report, for the walks after it.
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
