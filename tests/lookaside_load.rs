//! The example `lookaside` weighs servers by the load that they report, as a process of its own.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "common/grpc_go.rs"]
mod programs;
#[path = "common/reporting.rs"]
mod reporting;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use callboard::{Channel, Instance, Registration, RegistrationSettings, ServedBy, dial, register, registry};
use common::lookaside::until_listed;
use common::{PATIENCE, echo, in_time, request};
use programs::Program;
use reporting::{Reporting, reporting};

/// Signs a server in, under its name.
async fn sign_in(url: &str, name: &str, server: &Reporting) -> Registration {
    let (registry, service) = registry(url).unwrap();
    let instance = Instance::new(name, server.address.try_into().unwrap()).unwrap();
    let registration = register(registry, &service, instance, RegistrationSettings::default());
    registration.wait_registered(PATIENCE).await.unwrap();
    registration
}

/// Calls until server `a` has this share of a hundred calls, in percent. No call may fail.
async fn until_share(channel: &Channel, expected: std::ops::RangeInclusive<usize>) {
    let begun = Instant::now();
    loop {
        let mut served: BTreeMap<String, usize> = BTreeMap::new();
        for _ in 0..100 {
            let response = in_time(echo(channel).unary(request())).await.unwrap();
            let ServedBy(endpoint) = response.extensions().get().unwrap();
            *served.entry(endpoint.instance().id().to_owned()).or_default() += 1;
        }
        let share = served.get("a").copied().unwrap_or(0);
        if expected.contains(&share) {
            println!("share of a: {share} %, after {:.1?}", begun.elapsed());
            return;
        }
        assert!(begun.elapsed() < 2 * PATIENCE, "{served:?}, expected a share of {expected:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_gives_more_calls_to_whom_can_take_more() {
    let root = tempfile::tempdir().unwrap();
    let url = format!("file:///project/test?root={}", root.path().display());
    let often = Some(Duration::from_millis(200));
    let (a, b) = (reporting(often, 10.0, 0.2).await, reporting(often, 10.0, 0.8).await);
    let _signed_in = [sign_in(&url, "a", &a).await, sign_in(&url, "b", &b).await];

    // Cargo has built it beside the tests.
    let built = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/lookaside");
    let mut command = tokio::process::Command::new(built);
    command.args([&url, "--listen", "127.0.0.1:0"]);
    let mut example = Program::start(command);
    let said = example.first_answer().await;
    assert!(said.starts_with("balancing "), "{said}");

    let channel = dial(&url).await.unwrap();
    until_listed(&channel, 2).await;
    // Four times as much at a quarter of the utilisation.
    until_share(&channel, 75..=85).await;
    a.recorder.set(|report| report.cpu_utilization = 0.8);
    until_share(&channel, 48..=52).await;
    a.recorder.set(|report| report.application_utilization = 1.0);
    b.recorder.set(|report| report.application_utilization = 0.25);
    until_share(&channel, 15..=25).await;
}
