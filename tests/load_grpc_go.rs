//! Load reports beside grpc-go's: our channel reads what its server reports, and its client what ours does. Where there is
//! no Go, what its server has once reported is read again.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "common/grpc_go.rs"]
mod grpc_go;
#[path = "common/reporting.rs"]
mod reporting;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use callboard::balancer::RoundRobin;
use callboard::load::CallLoad;
use callboard::{Balancer, Call, Channel, Load, LoadReport, Member, Members, Outcome, Pick, Picker};
use callboard_echo::pb::EchoResponse;
use callboard_raw::Peer;
use common::{Stage, echo, endpoint, in_time, request, until};
use grpc_go::{Program, Tap, frames, recording};
use reporting::Reporting;
use tonic::{Code, Response};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const OFTEN: Duration = Duration::from_millis(50);

/// Round robin that asks for reports, and keeps what came with calls.
#[derive(Clone, Debug, Default)]
struct Asking(Arc<Mutex<Vec<LoadReport>>>);

impl Balancer for Asking {
    fn name(&self) -> &str {
        "asking"
    }

    fn picker(&self, ready: &Members) -> Box<dyn Picker> {
        Box::new(Keeping(RoundRobin::new().picker(ready), self.clone()))
    }

    fn oob_report_interval(&self) -> Option<Duration> {
        Some(OFTEN)
    }
}

#[derive(Debug)]
struct Keeping(Box<dyn Picker>, Asking);

impl Picker for Keeping {
    fn pick(&self, call: &Call<'_>) -> Pick {
        self.0.pick(call)
    }

    fn done(&self, _: Member, outcome: &Outcome) {
        let load = outcome.load.as_ref().map(|load| load.report().clone());
        self.1.0.lock().unwrap().extend(load);
    }
}

/// What `orca_server` says of itself.
fn of_server() -> LoadReport {
    let mut report = LoadReport::default();
    (report.cpu_utilization, report.mem_utilization, report.application_utilization) = (0.25, 0.5, 0.75);
    (report.rps_fractional, report.eps) = (120.5, 1.5);
    report.utilization.insert("disk".to_owned(), 0.9);
    report
}

/// What it says with each call.
fn of_call() -> LoadReport {
    let mut report = of_server();
    report.request_cost.insert("rows".to_owned(), 7.0);
    report.named_metrics.insert("of_call".to_owned(), 1.5);
    report
}

fn out_of_band(channel: &Channel) -> Option<Load> {
    endpoint(channel, "a").endpoint.out_of_band_load()
}

/// Waits for two reports out of band.
async fn until_reported_twice(channel: &Channel) {
    for _ in 0..2 {
        let before = out_of_band(channel);
        until("it reports", || out_of_band(channel) != before).await;
        assert_eq!(*out_of_band(channel).unwrap().report(), of_server());
    }
}

#[tokio::test]
#[ignore = "needs Go: make test"]
async fn reports_of_grpc_go_are_read_with_calls_and_out_of_band() {
    let stage = Stage::new();
    let mut server = Program::go("orca_server", &[]).await;
    let tap = Tap::to(server.first_answer().await.parse().unwrap()).await;
    let _registration = stage.sign_in("a", tap.address.try_into().unwrap(), 1).await;
    let balancer = Asking::default();
    let channel = stage.channel(stage.builder().balancer(balancer.clone()), 1).await;
    until_reported_twice(&channel).await;

    let mut client = HealthClient::new(channel.clone());
    let answer = in_time(client.check(HealthCheckRequest::default())).await.unwrap();
    let missing = HealthCheckRequest { service: "missing".to_owned() };
    // Trailers only.
    assert_eq!(in_time(client.check(missing)).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(*balancer.0.lock().unwrap(), [of_call(), of_call()]);

    if std::env::var_os("CALLBOARD_RECORD").is_some() {
        let trailer = answer.metadata().get_bin("endpoint-load-metrics-bin").expect("the trailer");
        std::fs::write(recording("orca", "trailer"), trailer.as_encoded_bytes()).unwrap();
        // The stream of reports is the first one.
        let passed = frames(&tap.passed.by_server.lock().unwrap());
        let data = passed.iter().find(|frame| (frame.kind, frame.stream) == (0, 1)).expect("a report");
        std::fs::write(recording("orca", "message"), &data.payload).unwrap();
    }
}

#[tokio::test]
#[ignore = "needs Go: make test"]
async fn our_reports_are_read_by_grpc_go_with_calls_and_out_of_band() {
    let server = Reporting::start(Some(OFTEN), |request| {
        let load = request.extensions().get::<CallLoad>().expect("the layer has put it there");
        load.set(|report| {
            report.request_cost.insert("rows".to_owned(), 7.0);
            report.named_metrics.insert("of_call".to_owned(), 1.5);
        });
        Ok(Response::new(EchoResponse::default()))
    })
    .await;
    server.recorder.set(|report| *report = of_server());
    let mut client = Program::go("orca_client", &[&server.address.to_string()]).await;
    let of_server = "cpu=0.25 mem=0.5 application=0.75 rps=120.5 eps=1.5";
    let first = client.first_answer().await;
    assert_eq!(first, format!("call {of_server} cost=map[rows:7] utilization=map[disk:0.9] named=map[of_call:1.5]"));
    for _ in 0..2 {
        let out_of_band = format!("stream {of_server} cost=map[] utilization=map[disk:0.9] named=map[]");
        assert_eq!(client.answer().await, out_of_band);
    }
}

/// What grpc-go's server has once said, byte by byte, said again.
#[tokio::test]
async fn what_was_recorded_of_go_is_read() {
    let read = |what: &str| std::fs::read(recording("orca", what)).expect("it is checked in");
    let (trailer, message) = (String::from_utf8(read("trailer")).unwrap(), read("message"));
    let stage = Stage::new();
    let script = move |mut peer: Peer| {
        let (trailer, message) = (trailer.clone(), message.clone());
        async move {
            peer.settings(&[]);
            // The first stream is that of reports.
            let Some(reports) = peer.opened().await else { return };
            peer.head(reports);
            for _ in 0..2 {
                peer.data(reports, &message, false);
                tokio::time::sleep(OFTEN).await;
            }
            while let Some(call) = peer.opened().await {
                peer.head(call);
                peer.message(call, "a");
                peer.headers(call, &[("grpc-status", "0"), ("endpoint-load-metrics-bin", &trailer)], true);
            }
        }
    };
    let (_server, _registration) = stage.raw("a", script).await;
    let balancer = Asking::default();
    let channel = stage.channel(stage.builder().balancer(balancer.clone()), 1).await;
    until("it has reported", || out_of_band(&channel).is_some()).await;
    assert_eq!(*out_of_band(&channel).unwrap().report(), of_server());
    in_time(echo(&channel).unary(request())).await.unwrap();
    assert_eq!(*balancer.0.lock().unwrap(), [of_call()]);
}
