//! What servers report of their load: with responses and out of band.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/reporting.rs"]
mod reporting;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use callboard::balancer::{RoundRobin, WeightedRoundRobin, WeightedRoundRobinSettings};
use callboard::load::CallLoad;
use callboard::{Balancer, Call, Channel, Load, Member, Members, Outcome, Pick, Picker, ServedBy};
use callboard_echo::pb::EchoResponse;
use common::{Stage, echo, endpoint, in_time, request, shares, tasks, until, until_ready};
use reporting::{Reporting, reporting};
use tonic::metadata::MetadataMap;
use tonic::{Code, Response, Status};

/// Round robin that asks for reports, has new pickers made, and counts these.
#[derive(Clone, Debug, Default)]
struct Curious {
    load_reports: Option<Duration>,
    refresh_interval: Option<Duration>,
    pickers: Arc<AtomicUsize>,
    loads: Arc<std::sync::Mutex<Vec<Option<Load>>>>,
}

impl Curious {
    fn asking(every: Duration) -> Self {
        Self { load_reports: Some(every), ..Self::default() }
    }
}

impl Balancer for Curious {
    fn name(&self) -> &str {
        "curious"
    }

    fn picker(&self, ready: &Members) -> Box<dyn Picker> {
        self.pickers.fetch_add(1, Ordering::SeqCst);
        Box::new(Noting(RoundRobin::new().picker(ready), self.clone()))
    }

    fn oob_report_interval(&self) -> Option<Duration> {
        self.load_reports
    }

    fn refresh_interval(&self) -> Option<Duration> {
        self.refresh_interval
    }
}

#[derive(Debug)]
struct Noting(Box<dyn Picker>, Curious);

impl Picker for Noting {
    fn pick(&self, call: &Call<'_>) -> Pick {
        self.0.pick(call)
    }

    fn done(&self, _: Member, outcome: &Outcome) {
        self.1.loads.lock().unwrap().push(outcome.load.clone());
    }
}

const SHORT: Duration = Duration::from_millis(20);

#[tokio::test]
async fn a_report_in_trailers_lands_on_the_endpoint_and_is_told_to_the_picker() {
    let stage = Stage::new();
    let server = Reporting::start(None, |request| {
        let load = request.extensions().get::<CallLoad>().expect("the layer has put it there").clone();
        load.set(|report| {
            report.request_cost.insert("rows".into(), 7.0);
            report.utilization.insert("disk".into(), 0.5);
        });
        match request.get_ref().payload.as_slice() {
            b"fail" => Err(Status::not_found("nothing here")),
            _ => Ok(Response::new(EchoResponse::default())),
        }
    })
    .await;
    server.recorder.set(|report| {
        report.application_utilization = 0.25;
        report.named_metrics.insert("queue".into(), 3.0);
        report.utilization.insert("disk".into(), 0.1);
    });
    let _registration = stage.sign_in("a", server.address.try_into().unwrap(), 1).await;
    let balancer = Curious::default();
    let channel = stage.channel(stage.builder().balancer(balancer.clone()), 1).await;
    assert_eq!(endpoint(&channel, "a").endpoint.load(), None);

    echo(&channel).unary(request()).await.unwrap();
    let load = endpoint(&channel, "a").endpoint.load().expect("a report");
    assert_eq!((load.report().application_utilization, load.report().request_cost["rows"]), (0.25, 7.0));
    assert_eq!((load.report().named_metrics["queue"], load.report().utilization["disk"]), (3.0, 0.5));
    assert_eq!(*balancer.loads.lock().unwrap(), [Some(load.clone())]);

    // Trailers only: there is nothing but a status.
    let failing = callboard_echo::pb::EchoRequest { payload: b"fail".into(), ..request() };
    assert_eq!(echo(&channel).unary(failing).await.unwrap_err().code(), Code::NotFound);
    let after = endpoint(&channel, "a").endpoint.load().expect("a report");
    assert!(after.at > load.at);
    assert_eq!(balancer.loads.lock().unwrap()[1], Some(after));
    assert_eq!(endpoint(&channel, "a").endpoint.out_of_band_load(), None);
    assert_eq!(server.asked(), 0, "nobody wants it");
}

#[tokio::test]
async fn garbage_in_place_of_a_report_says_nothing() {
    let stage = Stage::new();
    let server = common::scripted::Scripted::start(|_| {
        let mut metadata = MetadataMap::new();
        let garbage = tonic::metadata::MetadataValue::from_bytes(b"\xff\xff\xff");
        metadata.insert_bin("endpoint-load-metrics-bin", garbage);
        Err(Status::with_metadata(Code::AlreadyExists, "there is one", metadata))
    })
    .await;
    let _registration = stage.sign_in("a", server.address.try_into().unwrap(), 1).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let status = echo(&channel).unary(request()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::AlreadyExists, "there is one"));
    let load = endpoint(&channel, "a").endpoint.load().expect("something has come");
    assert_eq!(*load.report(), callboard::LoadReport::default());
}

/// Waits until this endpoint reports something new out of band.
async fn until_reported(channel: &Channel, id: &str) {
    let before = endpoint(channel, id).endpoint.out_of_band_load();
    until("it reports", || endpoint(channel, id).endpoint.out_of_band_load() != before).await;
}

#[tokio::test]
async fn each_endpoint_reports_out_of_band_as_long_as_it_is_there_and_no_call_is_counted() {
    let stage = Stage::new();
    let (a, b) = (reporting(Some(SHORT), 5.0, 0.5).await, reporting(Some(SHORT), 6.0, 0.5).await);
    let _a = stage.sign_in("a", a.address.try_into().unwrap(), 1).await;
    let b_signed_in = stage.sign_in("b", b.address.try_into().unwrap(), 1).await;
    let before = tasks();
    let channel = stage.channel(stage.builder().balancer(Curious::asking(SHORT)), 2).await;
    for id in ["a", "b", "a", "b"] {
        until_reported(&channel, id).await;
    }
    let a_status = endpoint(&channel, "a").endpoint;
    assert_eq!(a_status.load().map(|load| load.report().rps_fractional), Some(5.0));
    assert_eq!((a_status.calls(), a_status.in_flight(), a_status.latency()), (0, 0, None));
    assert_eq!((a.asked(), b.asked()), (1, 1));

    // One that changes in the registry keeps its stream; one that leaves ends it: the server need not wait for it.
    b_signed_in.deregister().await.unwrap();
    in_time(b.stop()).await;
    until_reported(&channel, "a").await;
    assert_eq!(a.asked(), 1);

    drop(channel);
    until("all tasks have ended", || tasks() <= before).await;
    in_time(a.stop()).await;
}

#[tokio::test]
async fn a_server_that_stops_need_not_wait_for_the_stream_and_is_asked_again_when_it_is_back() {
    let stage = Stage::new();
    let server = reporting(Some(SHORT), 5.0, 0.5).await;
    let address = server.address;
    let _registration = stage.sign_in("a", address.try_into().unwrap(), 1).await;
    let builder = stage.builder().balancer(Curious::asking(SHORT)).backoff(common::quick());
    let channel = stage.channel(builder, 1).await;
    until_reported(&channel, "a").await;
    in_time(server.stop()).await;
    let answer = |_| Ok(Response::new(EchoResponse::default()));
    let back = Reporting::start_at(address, |server| server, Some(SHORT), answer).await;
    until("it is asked", || back.asked() == 1).await;
    until_reported(&channel, "a").await;
}

#[tokio::test]
async fn a_server_without_the_service_is_asked_once_on_each_connection() {
    let stage = Stage::new();
    let server = reporting(None, 5.0, 0.5).await;
    let _registration = stage.sign_in("a", server.address.try_into().unwrap(), 1).await;
    let before = tasks();
    let curious = Curious { refresh_interval: Some(SHORT), ..Curious::asking(SHORT) };
    let channel = stage.channel(stage.builder().balancer(curious.clone()), 1).await;
    until("it is asked", || server.asked() == 1).await;
    // The control task looks again and again; and longer than the first wait of the backoff.
    let looked = curious.pickers.load(Ordering::SeqCst);
    until("it has looked often", || curious.pickers.load(Ordering::SeqCst) > looked + 60).await;
    assert_eq!((server.asked(), endpoint(&channel, "a").endpoint.load()), (1, None));
    shares_are(&channel, 10).await;
    drop(channel);
    until("all tasks have ended", || tasks() <= before).await;
}

/// Makes so many calls, which must succeed.
async fn shares_are(channel: &Channel, calls: usize) {
    for _ in 0..calls {
        in_time(echo(channel).unary(request())).await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_that_fails_is_opened_again_after_a_backoff() {
    let stage = Stage::new();
    // It resets each stream with INTERNAL_ERROR.
    let (server, _registration) = stage
        .raw("a", |mut peer| async move {
            peer.settings(&[]);
            while let Some(stream) = peer.opened().await {
                peer.reset(stream, 2);
            }
        })
        .await;
    let before = tasks();
    let channel = stage.channel(stage.builder().balancer(Curious::asking(SHORT)), 1).await;
    in_time(server.until(|stats| stats.requests == 1)).await;
    let begun = Instant::now();
    in_time(server.until(|stats| stats.requests == 2)).await;
    // The first wait is a second, counted from the start of the attempt.
    assert!(begun.elapsed() > Duration::from_millis(500), "{:?}", begun.elapsed());
    drop(channel);
    until("all tasks have ended", || tasks() <= before).await;
}

#[tokio::test]
async fn a_server_that_takes_one_call_at_a_time_is_left_to_the_calls() {
    let stage = Stage::new();
    let any = (std::net::Ipv4Addr::LOCALHOST, 0).into();
    let answer = |_| Ok(Response::new(EchoResponse::default()));
    let server = Reporting::start_at(any, |server| server.max_concurrent_streams(1), Some(SHORT), answer).await;
    let _registration = stage.sign_in("a", server.address.try_into().unwrap(), 1).await;
    let channel = stage.channel(stage.builder().balancer(Curious::asking(SHORT)), 1).await;
    shares_are(&channel, 20).await;
    assert_eq!(server.asked(), 0);
}

#[tokio::test]
async fn a_picker_is_renewed_as_often_as_the_balancer_says_and_no_call_notices() {
    let stage = Stage::new();
    let (_a, _a2) = stage.server("a").await;
    let never = Curious::default();
    let often = Curious { refresh_interval: Some(Duration::ZERO), ..Curious::default() };
    let channel = stage.channel(stage.builder().balancer(never.clone()), 1).await;
    let begun = Instant::now();
    let renewing = stage.channel(stage.builder().balancer(often.clone()), 1).await;
    until("there have been many", || often.pickers.load(Ordering::SeqCst) > 20).await;
    shares(&renewing, 100).await;
    let made = often.pickers.load(Ordering::SeqCst);
    let most = begun.elapsed().as_millis() / 10 + 2;
    assert!(made as u128 <= most, "{made} pickers, and {most} at most: none lives for less than 10 ms");
    shares(&channel, 1).await;
    assert_eq!(never.pickers.load(Ordering::SeqCst), 1);
}

/// Makes calls until `id` has about this share of them, in percent. The servers do not say who they are.
async fn until_share(channel: &Channel, id: &str, percent: usize) {
    let mut client = echo(channel);
    let settled = async {
        loop {
            let mut count = 0;
            for _ in 0..200 {
                let response = client.unary(request()).await.unwrap();
                let ServedBy(endpoint) = response.extensions().get().unwrap();
                count += usize::from(endpoint.instance().id() == id);
            }
            // New pickers start anywhere, so it may be a little off.
            if count.abs_diff(2 * percent) <= 6 {
                return;
            }
        }
    };
    in_time(settled).await;
}

#[tokio::test]
async fn weighted_round_robin_shares_by_what_servers_report_either_way() {
    for out_of_band in [false, true] {
        let stage = Stage::new();
        let (a, b) = (reporting(Some(SHORT), 30.0, 0.1).await, reporting(Some(SHORT), 30.0, 0.3).await);
        let _a = stage.sign_in("a", a.address.try_into().unwrap(), 1).await;
        let _b = stage.sign_in("b", b.address.try_into().unwrap(), 1).await;
        let mut settings = WeightedRoundRobinSettings::default();
        (settings.enable_oob_load_report, settings.oob_reporting_period) = (out_of_band, SHORT);
        (settings.blackout_period, settings.weight_update_period) = (Duration::ZERO, Duration::from_millis(100));
        let balancer = WeightedRoundRobin::with_settings(settings).unwrap();
        let channel = stage.builder().balancer(balancer).build().unwrap();
        until_ready(&channel, 2).await;
        until_share(&channel, "a", 75).await;
        b.recorder.set(|report| report.cpu_utilization = 0.1);
        until_share(&channel, "a", 50).await;
    }
}

#[tokio::test]
async fn a_service_config_can_choose_it_and_a_change_of_its_settings_ends_the_streams_or_begins_them() {
    let config = |settings: &str| format!(r#"{{"loadBalancingConfig": [{{"weighted_round_robin": {settings}}}]}}"#);
    let stage = Stage::new();
    let server = reporting(Some(SHORT), 5.0, 0.5).await;
    let _registration = stage.sign_in("a", server.address.try_into().unwrap(), 1).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let before = tasks();
    let asking = config(r#"{"enableOobLoadReport": true, "oobReportingPeriod": "0.02s"}"#);
    stage.put_service_config(Some(&asking)).await;
    until_reported(&channel, "a").await;
    assert_eq!(channel.service_config().balancer, "weighted_round_robin");

    stage.put_service_config(Some(&config(r#"{"errorUtilizationPenalty": -1}"#))).await;
    common::until_refused(&channel, "errorUtilizationPenalty -1").await;
    until_reported(&channel, "a").await;

    stage.put_service_config(Some(&config("{}"))).await;
    common::until_config(&channel, Some(&config("{}"))).await;
    until("the stream has ended", || tasks() <= before).await;
    shares_are(&channel, 10).await;
    assert_eq!((server.asked(), endpoint(&channel, "a").endpoint.calls()), (1, 10));
    stage.put_service_config(Some(&asking)).await;
    until("it is asked again", || server.asked() == 2).await;
    until_reported(&channel, "a").await;
}

#[tokio::test]
async fn a_url_can_choose_it() {
    let stage = Stage::new();
    let dialer = callboard::Dialer::new().resolver("board", stage.board.clone());
    let channel = dialer.dial("board:///project/test?balancer=weighted_round_robin").await.unwrap();
    let (_a, _a2) = stage.server("a").await;
    until_ready(&channel, 1).await;
    shares(&channel, 10).await;
}
