//! What a channel is told by several at once: a service's config by its URL, load reports, an external balancer.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/reporting.rs"]
mod reporting;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use callboard::lookaside::FallbackReason;
use callboard::lookaside::v1::{LoadBalanceResponse, Server};
use callboard::{Channel, Instance, RegistrationSettings, Registry, dial, put_service_config, register, registry};
use callboard_echo::pb::EchoResponse;
use common::lookaside::{Balancer, decides, until_fallback, until_listed};
use common::{PATIENCE, Stage, echo, in_time, request, shares, until, until_ready};
use reporting::{Reporting, reporting};
use tokio::task::JoinHandle;
use tonic::Response;

/// The name of the balancer in use.
fn balancer(channel: &Channel) -> String {
    channel.service_config().balancer.clone()
}

#[tokio::test]
async fn a_config_that_is_put_by_url_is_obeyed_until_it_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file:///project/test?root={}", folder.path().display());
    let server = reporting(None, 1.0, 0.5).await;
    let (board, service) = registry(&url).unwrap();
    let instance = Instance::at(server.address.try_into().unwrap()).unwrap();
    let registration = register(board, &service, instance, RegistrationSettings::default());
    registration.wait_registered(PATIENCE).await.unwrap();
    let channel = dial(&format!("{url}&balancer=weighted")).await.unwrap();
    until_ready(&channel, 1).await;
    assert_eq!(balancer(&channel), "weighted");

    put_service_config(&url, Some(r#"{"loadBalancingConfig":[{"pick_first":{}}]}"#)).await.unwrap();
    until("the config is in force", || balancer(&channel) == "pick_first").await;
    let error = put_service_config(&url, Some(r#"{"loadBalancingConfig":7}"#)).await.unwrap_err().to_string();
    assert!(error.contains("loadBalancingConfig"), "{error}");
    in_time(echo(&channel).unary(request())).await.unwrap();
    assert_eq!(balancer(&channel), "pick_first", "what cannot be read is not put");
    put_service_config(&url, None).await.unwrap();
    until("the default is back", || balancer(&channel) == "weighted").await;
    in_time(echo(&channel).unary(request())).await.unwrap();
}

/// A server that answers with its name, and says that it is used so much.
async fn named(name: &'static str, cpu: f64) -> Reporting {
    let answer = |_| Ok(Response::new(EchoResponse { server: name.to_owned(), ..EchoResponse::default() }));
    let server = Reporting::start(Some(Duration::from_millis(100)), answer).await;
    server.recorder.set(|report| (report.rps_fractional, report.cpu_utilization) = (30.0, cpu));
    server
}

/// Calls without a pause until it is stopped, and counts. None of them may fail.
struct Caller {
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    /// Those that server a has answered.
    by_a: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Caller {
    fn start(channel: &Channel) -> Self {
        let (stop, [calls, by_a]) = (Arc::<AtomicBool>::default(), [(); 2].map(|()| Arc::<AtomicUsize>::default()));
        let (channel, stopped, counted, of_a) =
            (channel.clone(), Arc::clone(&stop), Arc::clone(&calls), Arc::clone(&by_a));
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::SeqCst) {
                let answer = in_time(echo(&channel).unary(request())).await.expect("no call fails").into_inner();
                of_a.fetch_add(usize::from(answer.server == "a"), Ordering::SeqCst);
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { stop, calls, by_a, task }
    }

    /// How many calls there were, and how many of them server a has answered.
    fn counted(&self) -> (usize, usize) {
        (self.calls.load(Ordering::SeqCst), self.by_a.load(Ordering::SeqCst))
    }

    /// Waits until some more calls were answered.
    async fn some_more(&self) {
        let before = self.calls.load(Ordering::SeqCst);
        until("calls go on", || self.calls.load(Ordering::SeqCst) > before + 20 || self.task.is_finished()).await;
    }

    async fn end(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        self.task.await.unwrap();
        self.calls.load(Ordering::SeqCst)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn balancers_configs_and_reports_come_and_go_and_no_call_fails() {
    let (a, b) = (named("a", 0.2).await, named("b", 0.8).await);
    let stage = Stage::new();
    let _signed_in = [
        stage.sign_in("a", a.address.try_into().unwrap(), 1).await,
        stage.sign_in("b", b.address.try_into().unwrap(), 1).await,
    ];
    let channel = stage.builder().build().unwrap();
    until_ready(&channel, 2).await;
    let caller = Caller::start(&channel);
    let put = async |config: &str| stage.board.put_service_config(&stage.service, Some(config)).await.unwrap();
    let list = || [Server::at(a.address, "one"), Server::at(b.address, "two")];
    let by_load = r#"{"loadBalancingConfig":[{"weighted_round_robin":{"enableOobLoadReport":true,
        "oobReportingPeriod":"0.1s","blackoutPeriod":"0s","weightUpdatePeriod":"0.1s"}}]}"#;
    let with_retries = r#"{"loadBalancingConfig":[{"pick_first":{}}],"methodConfig":[{"name":[{}],"retryPolicy":
        {"maxAttempts":3,"initialBackoff":"0.01s","maxBackoff":"0.1s","backoffMultiplier":2,
         "retryableStatusCodes":["UNAVAILABLE"]}}]}"#;

    for round in 0..3 {
        // A list decides; the config's balancer waits in the wings.
        let balancer_server = Balancer::listing(list()).await;
        let id = format!("balancer-{round}");
        let signed_in = stage.balancer(&id, balancer_server.address()).await;
        until_listed(&channel, 2).await;
        put(by_load).await;
        until("it is in force", || balancer(&channel) == "weighted_round_robin").await;
        caller.some_more().await;
        // The other caller takes turns of the list too: of both together it is one half.
        let before = caller.counted();
        let mine = shares(&channel, 40).await.get("a").copied().unwrap_or(0);
        let after = caller.counted();
        let (all, share) = (40 + after.0 - before.0, mine + after.1 - before.1);
        assert!((2 * share).abs_diff(all) <= 6, "the list decides, not the load: {share} of {all}");
        // Fallback: the config's balancer decides, by load.
        balancer_server.say(&LoadBalanceResponse::fallback());
        until_fallback(&channel, FallbackReason::Asked).await;
        until_ready(&channel, 2).await;
        let (begun, mut share) = (Instant::now(), 0);
        while share <= 28 && begun.elapsed() < PATIENCE {
            share = shares(&channel, 40).await.get("a").copied().unwrap_or(0);
        }
        assert!(share > 28, "server a can take four times as much: {share} of 40");
        put(with_retries).await;
        until("it is in force", || balancer(&channel) == "pick_first").await;
        caller.some_more().await;
        // The list again, and then nobody.
        balancer_server.list(list());
        until_listed(&channel, 2).await;
        caller.some_more().await;
        signed_in.deregister().await.unwrap();
        until("nobody else decides", || decides(&channel).is_none()).await;
        stage.board.put_service_config(&stage.service, None).await.unwrap();
        until("the default is back", || balancer(&channel) == "round_robin").await;
        until_ready(&channel, 2).await;
        caller.some_more().await;
    }
    let calls = caller.end().await;
    println!("{calls} calls, 0 failed");
}
