//! What servers report of their load: in trailers, and out of band; and what the balancer makes of it that goes by it.
#![no_main]

use std::time::Duration;

use arbitrary::Arbitrary;
use callboard::balancer::{WeightedRoundRobin, WeightedRoundRobinSettings};
use callboard::load::fuzzing::{TRAILER, encode, load_in, out_of_band};
use callboard::{
    Balancer, Call, Code, ConnectivityState, Endpoint, Instance, Load, LoadReport, Members, Outcome, Pick,
};
use callboard_fuzz::{paused, within};
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use tokio::time::sleep;

#[derive(Arbitrary, Debug)]
struct Input {
    /// Values of the trailer, as they stand there.
    trailers: Vec<Vec<u8>>,
    /// Messages that come out of band.
    messages: Vec<Vec<u8>>,
    figures: Vec<Figures>,
    penalty: f64,
    out_of_band: bool,
}

/// A report with these.
#[derive(Arbitrary, Debug)]
struct Figures {
    cpu: f64,
    application: f64,
    requests: f64,
    errors: f64,
    named: Vec<(String, f64)>,
}

fuzz_target!(|input: Input| {
    let size = input.trailers.iter().chain(&input.messages).map(Vec::len).sum::<usize>();
    within((1 << 20) + 1_000 * (size + input.figures.len()), || {
        let trailers: Vec<_> = input.trailers.iter().filter_map(|value| HeaderValue::from_bytes(value).ok()).collect();
        all_of(&trailers);
        let mut reports: Vec<_> = trailers.iter().filter_map(one).collect();
        reports.extend(input.messages.iter().filter_map(|message| out_of_band(message)));
        reports.extend(input.figures.iter().map(report));
        for report in &reports {
            written(report);
            let capacity = report.capacity(input.penalty);
            assert!(capacity.is_none_or(|capacity| capacity.is_finite() && capacity > 0.0), "{capacity:?}: {report:?}");
        }
        paused(weighed(&reports, input.penalty, input.out_of_band));
    });
});

/// One report counts; several say nothing.
fn all_of(trailers: &[HeaderValue]) {
    let map: HeaderMap = trailers.iter().map(|value| (TRAILER, value.clone())).collect();
    assert!(load_in(&map).is_none() || trailers.len() == 1);
}

fn one(value: &HeaderValue) -> Option<LoadReport> {
    load_in(&HeaderMap::from_iter([(TRAILER, value.clone())])).map(|load| load.report().clone())
}

fn report(figures: &Figures) -> LoadReport {
    let mut report = LoadReport::default();
    (report.cpu_utilization, report.application_utilization) = (figures.cpu, figures.application);
    (report.rps_fractional, report.eps) = (figures.requests, figures.errors);
    report.named_metrics = figures.named.iter().cloned().collect();
    report
}

/// What is written is read as it was. NaN is not itself, but is written alike.
fn written(report: &LoadReport) {
    let value = encode(report.clone());
    let Some(again) = one(&value) else { return assert!(value.len() > 8 << 10, "it was not taken") };
    assert_eq!(encode(again), value);
}

/// However servers report, each pick is one of the endpoints that there are, and each endpoint has its share.
async fn weighed(reports: &[LoadReport], penalty: f64, out_of_band: bool) {
    let mut settings = WeightedRoundRobinSettings::default();
    settings.error_utilization_penalty = penalty;
    settings.enable_oob_load_report = out_of_band;
    settings.blackout_period = Duration::ZERO;
    let Ok(balancer) = WeightedRoundRobin::with_settings(settings) else { return };
    let members = Members::new((1..4).map(endpoint).collect::<Vec<_>>());
    for reports in reports.chunks(3) {
        let picker = balancer.picker(&members);
        for (member, report) in members.iter().zip(reports) {
            sleep(Duration::from_millis(1)).await;
            let load = Load::now(report.clone());
            members[member].set_out_of_band_load(load.clone());
            let mut outcome = Outcome::new(Code::Ok, Duration::ZERO);
            outcome.load = Some(load);
            picker.done(member, &outcome);
        }
    }
    let picker = balancer.picker(&members);
    let (headers, extensions) = Default::default();
    let call = Call::new("/a.B/C", &headers, &extensions);
    let mut picked = [0; 3];
    for _ in 0..5_000 {
        match picker.pick(&call) {
            Pick::To(member) => picked[member.index()] += 1,
            other => panic!("{other:?} where all are ready"),
        }
    }
    assert!(picked.iter().all(|calls| *calls > 0), "an endpoint gets no call: {picked:?}");
}

fn endpoint(port: u16) -> Endpoint {
    let address = callboard::Address::tcp("10.0.0.7", port).expect("an address");
    let endpoint = Endpoint::new(Instance::at(address).expect("an id"));
    endpoint.set_state(ConnectivityState::Ready);
    endpoint
}
