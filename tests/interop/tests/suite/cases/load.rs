//! What servers report of their load: with a call, and out of band.

use std::collections::HashMap;

use callboard::LoadReport;
use callboard::balancer::{PickFirst, RoundRobin};
use callboard_interop::pb::{SimpleRequest, StreamingOutputCallRequest, TestOrcaReport};

use super::streaming::{asking, requests};
use crate::client::{Client, Noting};
use crate::common::until;

fn named(name: &str, value: f64) -> HashMap<String, f64> {
    HashMap::from([(name.to_owned(), value)])
}

/// Whether the report has these figures. A server may report more than it is told to.
fn says(report: &LoadReport, wanted: &TestOrcaReport) -> bool {
    (report.cpu_utilization, report.mem_utilization) == (wanted.cpu_utilization, wanted.memory_utilization)
        && report.request_cost == wanted.request_cost.clone().into_iter().collect()
        && report.utilization == wanted.utilization.clone().into_iter().collect()
}

pub async fn orca_per_rpc(client: Client) {
    let noting = Noting::new(RoundRobin::new());
    let client = client.balanced(noting.clone(), 3).await;
    let wanted = TestOrcaReport {
        cpu_utilization: 0.8210,
        memory_utilization: 0.5847,
        request_cost: named("cost", 3456.32),
        utilization: named("util", 0.30499),
    };
    let request = SimpleRequest { orca_per_query_report: Some(wanted.clone()), ..SimpleRequest::default() };
    client.stub().unary_call(request).await.unwrap();
    until("the balancer is told", || noting.last().is_some()).await;
    let load = noting.last().unwrap().load.expect("a report");
    assert!(says(load.report(), &wanted), "{load:?}");
}

pub async fn orca_oob(client: Client) {
    let client = client.balanced(Noting::new(PickFirst::new()), 1).await;
    let reports = [(0.8210, 0.5847, 0.30499), (0.29309, 0.2, 0.2039)].map(|(cpu, memory, util)| TestOrcaReport {
        cpu_utilization: cpu,
        memory_utilization: memory,
        utilization: named("util", util),
        ..TestOrcaReport::default()
    });
    let asking =
        |report: &TestOrcaReport| StreamingOutputCallRequest { orca_oob_report: Some(report.clone()), ..asking(&[1]) };
    let (sender, requests) = requests();
    sender.send(asking(&reports[0])).unwrap();
    let mut responses = client.stub().full_duplex_call(requests).await.unwrap().into_inner();
    responses.message().await.unwrap().unwrap();
    until_reported(&client, &reports[0]).await;
    sender.send(asking(&reports[1])).unwrap();
    responses.message().await.unwrap().unwrap();
    until_reported(&client, &reports[1]).await;
}

async fn until_reported(client: &Client, wanted: &TestOrcaReport) {
    until("it is reported out of band", || {
        let loads = client.channel.endpoints().into_iter().filter_map(|status| status.endpoint.out_of_band_load());
        loads.into_iter().any(|load| says(load.report(), wanted))
    })
    .await;
}
