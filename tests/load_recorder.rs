//! What a server measures and tells of its load, as a client sees it.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/reporting.rs"]
mod reporting;

use std::time::Duration;

use callboard::load::LoadRecorder;
use callboard::{Balancer, LoadReport, Members, Picker};
use callboard_echo::pb::{EchoRequest, EchoResponse};
use common::{Stage, echo, endpoint, request, until};
use reporting::Reporting;
use tonic::{Code, Response, Status};

/// Round robin that asks for reports.
#[derive(Debug)]
struct Asking(Duration);

impl Balancer for Asking {
    fn name(&self) -> &str {
        "asking"
    }

    fn picker(&self, ready: &Members) -> Box<dyn Picker> {
        callboard::balancer::RoundRobin::new().picker(ready)
    }

    fn oob_report_interval(&self) -> Option<Duration> {
        Some(self.0)
    }
}

#[tokio::test]
async fn requests_and_the_servers_own_errors_are_counted_and_streams_of_reports_are_not() {
    let stage = Stage::new();
    let often = Duration::from_millis(50);
    let server = Reporting::start(Some(often), |request| match request.get_ref().payload.as_slice() {
        b"internal" => Err(Status::internal("as asked")),
        b"missing" => Err(Status::not_found("as asked")),
        _ => Ok(Response::new(EchoResponse::default())),
    })
    .await;
    let _registration = stage.sign_in("a", server.address.try_into().unwrap(), 1).await;
    let channel = stage.channel(stage.builder().balancer(Asking(often)), 1).await;
    let seen = || endpoint(&channel, "a").endpoint.out_of_band_load().map(|load| load.report().clone());
    until("it has reported", || seen().is_some()).await;
    for (payload, code) in [("", Code::Ok), ("internal", Code::Internal), ("missing", Code::NotFound)].repeat(20) {
        let request = EchoRequest { payload: payload.into(), ..request() };
        let answer = echo(&channel).unary(request).await;
        assert_eq!(answer.map_or_else(|status| status.code(), |_| Code::Ok), code);
    }
    let third =
        |report: &LoadReport| report.rps_fractional > 0.0 && (3.0 * report.eps - report.rps_fractional).abs() < 1e-6;
    until("a third of the requests counts as errors", || seen().as_ref().is_some_and(third)).await;
    assert!(seen().unwrap().cpu_utilization > 0.0, "answering takes a processor");
    // All calls are over; the stream of reports is not, and is no request.
    until("nothing is left", || seen().is_some_and(|report| report.rps_fractional == 0.0)).await;
}

#[tokio::test]
async fn a_client_is_told_no_more_often_than_the_server_permits() {
    let stage = Stage::new();
    let wanted = Duration::from_millis(10);
    let answer = |_| Ok(Response::new(EchoResponse::default()));
    let (seldom, often) = (
        Reporting::start(Some(Duration::from_secs(3_600)), answer).await,
        Reporting::start(Some(wanted), answer).await,
    );
    let _seldom = stage.sign_in("seldom", seldom.address.try_into().unwrap(), 1).await;
    let _often = stage.sign_in("often", often.address.try_into().unwrap(), 1).await;
    let channel = stage.channel(stage.builder().balancer(Asking(wanted)), 2).await;
    let load = |id: &str| endpoint(&channel, id).endpoint.out_of_band_load();
    until("both have reported", || load("seldom").is_some() && load("often").is_some()).await;
    let first = load("seldom");
    for _ in 0..20 {
        let before = load("often");
        until("there is another report", || load("often") != before).await;
    }
    assert_eq!(load("seldom"), first);
}

#[test]
fn what_the_application_sets_is_reported_and_comes_before_what_is_measured() {
    let recorder = LoadRecorder::with_window(Duration::from_millis(100));
    let clone = recorder.clone();
    clone.set(|report| {
        (report.cpu_utilization, report.mem_utilization) = (0.75, 0.5);
        report.named_metrics.insert("queue".to_owned(), 1.0);
    });
    clone.set(|report| report.rps_fractional = 7.0);
    let report = recorder.report();
    assert_eq!((report.cpu_utilization, report.mem_utilization, report.rps_fractional), (0.75, 0.5, 7.0));
    assert_eq!(report.named_metrics["queue"], 1.0);
    clone.set(|report| *report = LoadReport::default());
    assert_eq!(recorder.report().named_metrics.len(), 0);
}
