#![doc = include_str!("../README.md")]

mod order;

use std::time::Duration;

use callboard_core::{Balancer, BalancerSettings, Call, Connect, Member, Members, Pick, Picker, Result};
use serde::Deserialize;

/// Sends every call to one endpoint, the first that connects, as long as it works. gRPC's `pick_first`.
///
/// Endpoints are tried in the registry's order, or in a random one if [`shuffle`](Self::shuffle) is set. If there are
/// IPv4 and IPv6 addresses, the families alternate, beginning with that of the first. So a network where one family is
/// broken costs one attempt delay, not one for each address. An endpoint that is ready comes before all others. A
/// picker without endpoints makes calls wait.
///
/// ```
/// use std::time::Duration;
///
/// use callboard_pick_first::PickFirst;
///
/// let balancer = PickFirst::new().attempt_delay(Duration::from_millis(400)).shuffle(true);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PickFirst {
    attempt_delay: Duration,
    /// The seed of the random order; none for the registry's order.
    seed: Option<u64>,
}

impl Default for PickFirst {
    fn default() -> Self {
        Self { attempt_delay: Duration::from_millis(250), seed: None }
    }
}

/// The settings in a service config.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    shuffle_address_list: Option<bool>,
}

impl PickFirst {
    /// A balancer that tries endpoints in the registry's order, 250 ms apart.
    pub fn new() -> Self {
        Self::default()
    }

    /// A balancer with the settings of a service config: gRPC's `shuffleAddressList` says whether to
    /// [`shuffle`](Self::shuffle).
    ///
    /// # Errors
    /// [`Invalid`](callboard_core::ErrorKind::Invalid), naming the field, if it is not a boolean.
    ///
    /// ```
    /// use callboard_core::BalancerSettings;
    /// use callboard_pick_first::PickFirst;
    ///
    /// let settings = BalancerSettings::parse("pick_first", r#"{"shuffleAddressList": false}"#)?;
    /// assert_eq!(PickFirst::from_settings(&settings)?, PickFirst::new());
    /// # Ok::<(), callboard_core::Error>(())
    /// ```
    pub fn from_settings(settings: &BalancerSettings) -> Result<Self> {
        let Settings { shuffle_address_list } = settings.read()?;
        Ok(Self::new().shuffle(shuffle_address_list.unwrap_or_default()))
    }

    /// Sets how long an attempt runs alone before the next one is started beside it. 250 ms by default. Less than 100
    /// ms counts as 100 ms, to spare servers needless connections, and more than 2 s as 2 s: the bounds of gRPC (A61).
    #[must_use]
    pub fn attempt_delay(mut self, attempt_delay: Duration) -> Self {
        self.attempt_delay = attempt_delay.clamp(Duration::from_millis(100), Duration::from_secs(2));
        self
    }

    /// Chooses between a random order and the registry's. The registry's by default.
    ///
    /// The random order is drawn here. This value and its clones use the same order, and endpoints keep their relative
    /// order when others are added or removed. An endpoint's chance to be first is in proportion to its weight (gRPC's
    /// A113); endpoints of weight 0 come last.
    #[must_use]
    pub fn shuffle(mut self, shuffle: bool) -> Self {
        self.seed = shuffle.then(|| fastrand::u64(..));
        self
    }
}

impl Balancer for PickFirst {
    fn name(&self) -> &str {
        "pick_first"
    }

    fn connect(&self, members: &Members) -> Connect {
        Connect::InOrder { order: order::order(members, self.seed), attempt_delay: self.attempt_delay }
    }

    /// A shuffled order depends on them.
    fn uses_weights(&self) -> bool {
        self.seed.is_some()
    }

    /// If several endpoints are ready, the first in the order is picked.
    fn picker(&self, members: &Members) -> Box<dyn Picker> {
        // Ready endpoints come first in the order.
        let first = order::order(members, self.seed).into_iter().next();
        Box::new(One(first.filter(|_| !members.ready().is_empty())))
    }
}

#[derive(Debug)]
struct One(Option<Member>);

impl Picker for One {
    fn pick(&self, _: &Call<'_>) -> Pick {
        self.0.map_or(Pick::Wait, Pick::To)
    }
}

#[cfg(test)]
mod tests {
    use callboard_core::{ConnectivityState, Endpoint, Instance};

    use super::*;

    fn members(n: usize, state: ConnectivityState) -> Members {
        let address = |i| format!("10.0.0.1:{}", i + 1).parse().unwrap();
        let endpoint = |i| Endpoint::new(Instance::new(format!("e{i}"), address(i)).unwrap());
        let endpoints: Vec<_> = (0..n).map(endpoint).collect();
        endpoints.iter().for_each(|endpoint| endpoint.set_state(state));
        Members::new(endpoints)
    }

    fn idle(n: usize) -> Members {
        members(n, ConnectivityState::Idle)
    }

    fn pick(picker: &dyn Picker) -> Pick {
        let (headers, extensions) = Default::default();
        picker.pick(&Call::new("/a.B/C", &headers, &extensions))
    }

    #[test]
    fn it_has_the_name_that_grpc_gives_it() {
        assert_eq!(PickFirst::new().name(), "pick_first");
    }

    #[test]
    fn endpoints_are_tried_in_the_registrys_order_250_ms_apart() {
        let expected = Connect::InOrder { order: idle(3).iter().collect(), attempt_delay: Duration::from_millis(250) };
        assert_eq!(PickFirst::new().connect(&idle(3)), expected);
        assert_eq!(PickFirst::new().shuffle(true).shuffle(false).connect(&idle(3)), expected);
    }

    #[test]
    fn the_stagger_keeps_to_grpcs_bounds() {
        for (asked, got) in [(0, 100), (100, 100), (700, 700), (2_000, 2_000), (60_000, 2_000)] {
            let balancer = PickFirst::new().attempt_delay(Duration::from_millis(asked));
            let Connect::InOrder { attempt_delay, .. } = balancer.connect(&idle(1)) else { panic!("not in order") };
            assert_eq!(attempt_delay, Duration::from_millis(got));
        }
    }

    #[test]
    fn a_shuffled_order_stays_for_a_value_and_its_clones_and_differs_between_values() {
        let many = idle(20);
        let balancer = PickFirst::new().shuffle(true);
        assert_eq!(balancer.connect(&many), balancer.connect(&many));
        assert_eq!(balancer.clone().connect(&many), balancer.connect(&many));
        assert!((0..10).any(|_| PickFirst::new().shuffle(true).connect(&many) != balancer.connect(&many)));
    }

    #[test]
    fn every_call_goes_to_the_one_that_was_kept() {
        let picker = PickFirst::new().shuffle(true).picker(&members(1, ConnectivityState::Ready));
        assert!((0..10).all(|_| pick(&*picker).member().map(Member::index) == Some(0)));
    }

    #[test]
    fn of_several_ready_ones_the_first_in_the_order_is_taken() {
        let ready = members(10, ConnectivityState::Ready);
        assert_eq!(pick(&*PickFirst::new().picker(&ready)).member().map(Member::index), Some(0));
        let shuffled = PickFirst::new().shuffle(true);
        let Connect::InOrder { order, .. } = shuffled.connect(&ready) else { panic!("not in order") };
        assert_eq!(pick(&*shuffled.picker(&ready)), Pick::To(order[0]));
    }

    #[test]
    fn without_endpoints_nothing_is_tried_and_calls_wait() {
        let attempt_delay = Duration::from_millis(250);
        assert_eq!(PickFirst::new().connect(&idle(0)), Connect::InOrder { order: vec![], attempt_delay });
        assert_eq!(pick(&*PickFirst::new().picker(&idle(0))), Pick::Wait);
    }
}
