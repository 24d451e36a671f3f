use callboard_core::{Code, ConnectivityState, Instance, Load, LoadReport};
use proptest::prelude::*;
use tokio::time::advance;

use super::*;

fn endpoints(weights: &[u32]) -> Vec<Endpoint> {
    let address = |i| format!("127.0.0.1:{}", i + 1).parse().unwrap();
    let instance = |i, weight| Instance::new(format!("e{i}"), address(i)).unwrap().with_weight(weight);
    let endpoints: Vec<_> = weights.iter().enumerate().map(|(i, weight)| Endpoint::new(instance(i, *weight))).collect();
    endpoints.iter().for_each(|endpoint| endpoint.set_state(ConnectivityState::Ready));
    endpoints
}

fn report(rps: f64, cpu: f64) -> LoadReport {
    let mut report = LoadReport::default();
    (report.rps_fractional, report.cpu_utilization) = (rps, cpu);
    report
}

#[derive(Debug)]
struct Shares(Vec<u32>);

impl<const N: usize> PartialEq<[u32; N]> for Shares {
    fn eq(&self, expected: &[u32; N]) -> bool {
        self.0.len() == N && self.0.iter().zip(expected).all(|(share, expected)| share.abs_diff(*expected) <= 1)
    }
}

/// The balancer with these settings, and the endpoints that it is given.
struct Stage {
    balancer: WeightedRoundRobin,
    endpoints: Vec<Endpoint>,
}

impl Stage {
    fn new(weights: &[u32]) -> Self {
        Self::with(weights, |_| ())
    }

    fn with(weights: &[u32], change: impl FnOnce(&mut WeightedRoundRobinSettings)) -> Self {
        let mut settings = WeightedRoundRobinSettings::default();
        change(&mut settings);
        Self { balancer: WeightedRoundRobin::with_settings(settings).unwrap(), endpoints: endpoints(weights) }
    }

    fn members(&self) -> Members {
        Members::new(self.endpoints.as_slice())
    }

    /// Ends a call at each of the endpoints with a report.
    fn report(&self, reports: &[LoadReport]) {
        let members = self.members();
        let picker = self.balancer.picker(&members);
        for (index, report) in reports.iter().enumerate() {
            let load = Load::now(report.clone());
            self.endpoints[index].set_load(load.clone());
            picker.done(members.ready()[index], &Outcome::new(Code::Ok, Duration::from_millis(1)).load(Some(load)));
        }
    }

    /// Makes them report again and again, until their weights are used.
    async fn report_long(&self, reports: &[LoadReport]) {
        for _ in 0..=10 {
            self.report(reports);
            advance(Duration::from_secs(1)).await;
        }
    }

    fn picks(&self, count: usize) -> Vec<usize> {
        let (picker, headers, extensions) =
            (self.balancer.picker(&self.members()), Default::default(), Default::default());
        let call = Call::new("/a.B/C", &headers, &extensions);
        let pick = |_| match picker.pick(&call) {
            Pick::To(member) => member.index(),
            other => panic!("{other:?}"),
        };
        (0..count).map(pick).collect()
    }

    /// Shares in thousandths, by 20,000 picks. They may be off by one, because a share is rarely a whole number.
    fn shares(&self) -> Shares {
        let mut counts = vec![0_u32; self.endpoints.len()];
        self.picks(20_000).into_iter().for_each(|index| counts[index] += 1);
        Shares(counts.into_iter().map(|count| (count + 10) / 20).collect())
    }
}

#[tokio::test(start_paused = true)]
async fn a_weight_is_requests_by_utilisation_once_the_blackout_is_over() {
    let stage = Stage::new(&[1, 1]);
    assert_eq!(stage.shares(), [500, 500]);
    let reports = [report(30.0, 0.1), report(30.0, 0.3)];
    stage.report(&reports);
    advance(Duration::from_millis(9_999)).await;
    stage.report(&reports);
    assert_eq!(stage.shares(), [500, 500], "they have reported for less than 10 s");
    advance(Duration::from_millis(1)).await;
    assert_eq!(stage.shares(), [750, 250]);
}

#[tokio::test(start_paused = true)]
async fn the_applications_utilisation_comes_first_and_errors_weigh_as_the_penalty_says() {
    let of_application = |mut report: LoadReport, utilization| {
        report.application_utilization = utilization;
        report
    };
    let failing = |mut report: LoadReport, eps| {
        report.eps = eps;
        report
    };
    for (penalty, first, second, shares) in [
        (1.0, of_application(report(10.0, 0.1), 0.4), report(10.0, 0.4), [500, 500]),
        (1.0, of_application(report(10.0, 0.4), 0.1), report(10.0, 0.4), [800, 200]),
        (1.0, failing(report(10.0, 0.5), 5.0), report(10.0, 0.5), [333, 667]),
        (2.0, failing(report(10.0, 0.5), 5.0), report(10.0, 0.5), [250, 750]),
        (0.0, failing(report(10.0, 0.5), 5.0), report(10.0, 0.5), [500, 500]),
    ] {
        let stage = Stage::with(&[1, 1], |settings| settings.error_utilization_penalty = penalty);
        stage.report_long(&[first, second]).await;
        assert_eq!(stage.shares(), shares, "penalty {penalty}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_report_that_says_nothing_usable_leaves_the_former_weight() {
    let stage = Stage::new(&[1, 1]);
    stage.report_long(&[report(30.0, 0.1), report(30.0, 0.3)]).await;
    let odd =
        [(0.0, 0.5), (10.0, 0.0), (f64::NAN, 0.5), (10.0, f64::NAN), (-1.0, 0.5), (10.0, -0.5), (f64::INFINITY, 1.0)];
    for (rps, cpu) in odd {
        stage.report(&[report(rps, cpu), report(rps, cpu)]);
        assert_eq!(stage.shares(), [750, 250], "rps {rps}, cpu {cpu}");
    }
    let mut credit = report(10.0, 0.5);
    credit.eps = -1e9;
    stage.report(&[credit.clone(), credit]);
    assert_eq!(stage.shares(), [750, 250]);
}

#[tokio::test(start_paused = true)]
async fn a_weight_expires_and_then_the_blackout_begins_anew() {
    let stage = Stage::with(&[1, 1], |settings| settings.weight_expiration_period = Duration::from_secs(30));
    let reports = [report(30.0, 0.1), report(30.0, 0.3)];
    stage.report_long(&reports).await;
    // The last report is a second old.
    advance(Duration::from_millis(28_999)).await;
    assert_eq!(stage.shares(), [750, 250]);
    advance(Duration::from_millis(1)).await;
    assert_eq!(stage.shares(), [500, 500]);
    stage.report(&reports);
    advance(Duration::from_secs(9)).await;
    stage.report(&reports);
    assert_eq!(stage.shares(), [500, 500]);
    advance(Duration::from_secs(1)).await;
    assert_eq!(stage.shares(), [750, 250]);
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_starts_from_nothing() {
    let stage = Stage::with(&[1, 1, 1], |settings| settings.enable_oob_load_report = true);
    let load = |rps, cpu| Load::now(report(rps, cpu));
    let all = |stage: &Stage| {
        for (endpoint, cpu) in stage.endpoints.iter().zip([0.1, 0.2, 0.3]) {
            endpoint.set_out_of_band_load(load(6.0, cpu));
        }
        stage.picks(1);
    };
    all(&stage);
    advance(Duration::from_secs(10)).await;
    all(&stage);
    assert_eq!(stage.shares(), [545, 273, 182]);
    stage.endpoints[2].set_state(ConnectivityState::Idle);
    advance(Duration::from_secs(1)).await;
    stage.endpoints[2].set_state(ConnectivityState::Ready);
    // 60 and 30, and their mean, although its last report is still there.
    assert_eq!(stage.shares(), [444, 222, 333]);
    all(&stage);
    advance(Duration::from_secs(9)).await;
    all(&stage);
    assert_eq!(stage.shares(), [444, 222, 333]);
    advance(Duration::from_secs(1)).await;
    assert_eq!(stage.shares(), [545, 273, 182]);
}

#[tokio::test(start_paused = true)]
async fn reports_count_that_come_the_way_that_was_asked_for_and_no_others() {
    for out_of_band in [false, true] {
        let stage = Stage::with(&[1, 1], |settings| settings.enable_oob_load_report = out_of_band);
        let ignored = [report(30.0, 0.1), report(30.0, 0.3)];
        for _ in 0..=10 {
            if out_of_band {
                stage.report(&ignored);
            } else {
                stage.endpoints.iter().zip(&ignored).for_each(|(endpoint, report)| {
                    endpoint.set_out_of_band_load(Load::now(report.clone()));
                });
            }
            assert_eq!(stage.shares(), [500, 500], "out of band: {out_of_band}");
            advance(Duration::from_secs(1)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn fewer_than_two_weights_are_round_robin_and_those_without_have_the_mean() {
    let stage = Stage::new(&[1, 1, 1, 1]);
    stage.report_long(&[report(30.0, 0.1)]).await;
    assert!(stage.picks(400).chunks(4).all(|round| round.iter().sum::<usize>() == 6), "one weight is none");
    stage.report_long(&[report(30.0, 0.1), report(30.0, 0.3)]).await;
    assert_eq!(stage.shares(), [375, 125, 250, 250]);
}

#[tokio::test(start_paused = true)]
async fn weights_in_the_registry_multiply() {
    let stage = Stage::new(&[1, 3, 2, 0]);
    let reports = [report(30.0, 0.1), report(30.0, 0.3), report(30.0, 0.3), report(30.0, 0.01)];
    assert_eq!(stage.shares(), [167, 500, 333, 0], "without reports they are all there is");
    stage.report_long(&reports[..3]).await;
    assert_eq!(stage.shares(), [375, 375, 250, 0]);
    stage.report_long(&reports).await;
    assert_eq!(stage.shares().0[3], 0);
    let alike = Stage::new(&[1, 3]);
    alike.report_long(&[report(30.0, 0.3), report(10.0, 0.1)]).await;
    assert!(alike.picks(400).chunks(4).all(|round| round.iter().sum::<usize>() == 3), "equal weights are exact");
}

#[tokio::test(start_paused = true)]
async fn every_endpoint_gets_calls_and_none_gets_them_all() {
    let stage = Stage::new(&[1, 1, 1]);
    stage.report_long(&[report(1e-300, 1e9), report(1.0, 1.0), report(1.0, 1.0)]).await;
    let shares = stage.shares();
    assert!((3..=5).contains(&shares.0[0]), "a hundredth of the mean: {shares:?}");
    stage.report_long(&[report(1e300, 1e-8), report(1e300, 1e-8), report(1.0, 1.0)]).await;
    let shares = stage.shares();
    assert!((3..=5).contains(&shares.0[2]), "{shares:?}");
}

#[test]
fn the_channel_is_told_what_the_settings_say() {
    let with = |json: &str| WeightedRoundRobin::with_settings(serde_json::from_str(json).unwrap()).unwrap();
    let intervals = |balancer: WeightedRoundRobin| (balancer.refresh_interval(), balancer.oob_report_interval());
    let (second, floor) = (Duration::from_secs(1), Duration::from_millis(100));
    assert_eq!(intervals(WeightedRoundRobin::new()), (Some(second), None));
    assert_eq!(intervals(with(r#"{"enableOobLoadReport": true}"#)), (Some(second), Some(10 * second)));
    assert_eq!(intervals(with(r#"{"oobReportingPeriod": "3s", "weightUpdatePeriod": "0.001s"}"#)), (Some(floor), None));
    assert_eq!(WeightedRoundRobin::new().name(), "weighted_round_robin");
    for penalty in [-1.0, f64::NAN, f64::INFINITY] {
        let settings = WeightedRoundRobinSettings { error_utilization_penalty: penalty, ..Default::default() };
        let error = WeightedRoundRobin::with_settings(settings).expect_err("no penalty");
        assert!(error.to_string().contains("errorUtilizationPenalty"), "{error}");
    }
}

proptest! {
    /// For any reports, shares follow the weights, limited to between a hundredth of the mean and ten times the mean.
    #[test]
    fn shares_are_as_the_weights_are(
        reported in prop::collection::vec((0.1_f64..1_000.0, 0.01_f64..1.0, 1_u32..5), 2..12),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let (picks, weights) = runtime.block_on(async {
            let stage = Stage::new(&reported.iter().map(|(_, _, weight)| *weight).collect::<Vec<_>>());
            stage.report_long(&reported.iter().map(|(rps, cpu, _)| report(*rps, *cpu)).collect::<Vec<_>>()).await;
            let mean = reported.iter().map(|(rps, cpu, _)| rps / cpu).sum::<f64>() / reported.len() as f64;
            let weight = |(rps, cpu, weight): &(f64, f64, u32)| (rps / cpu / mean).clamp(0.01, 10.0) * f64::from(*weight);
            (stage.picks(5_000), reported.iter().map(weight).collect::<Vec<_>>())
        });
        let total: f64 = weights.iter().sum();
        let mut counts = vec![0.0; weights.len()];
        for (done, index) in picks.iter().enumerate() {
            counts[*index] += 1.0;
            // Smooth: at no time is an endpoint more than a few calls off.
            for (count, weight) in counts.iter().zip(&weights) {
                let share = weight / total * (done + 1) as f64;
                prop_assert!((count - share).abs() < 9.0, "{count} of {share} after {done}");
            }
        }
    }

    #[test]
    fn no_report_at_all_can_break_a_picker(
        reported in prop::collection::vec((any::<f64>(), any::<f64>(), any::<f64>(), any::<f64>(), any::<u32>()), 1..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let stage = Stage::new(&reported.iter().map(|(.., weight)| *weight).collect::<Vec<_>>());
            let odd = |(rps, cpu, application, eps, _): &(f64, f64, f64, f64, u32)| {
                let mut odd = report(*rps, *cpu);
                (odd.application_utilization, odd.eps) = (*application, *eps);
                odd
            };
            stage.report_long(&reported.iter().map(odd).collect::<Vec<_>>()).await;
            stage.picks(100);
        });
    }
}
