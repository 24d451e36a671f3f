//! One endpoint at a time.

mod common;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use callboard::ConnectivityState;
use callboard::balancer::PickFirst;
use callboard_echo::EchoServer;
use common::silent::{Deaf, Odd, Refusing};
use common::{Stage, echo, endpoint, in_time, quick, request, shares, until, until_endpoints, until_ready};

fn only(id: &str, calls: usize) -> BTreeMap<String, usize> {
    BTreeMap::from([(id.to_owned(), calls)])
}

/// The second of two, of which the first is a black hole, is connected when the first has had its head start.
async fn second_after_a_quarter_of_a_second(stage: &Stage) {
    let (second, _b) = stage.server("b").await;
    let begun = Instant::now();
    let channel = stage.channel(stage.builder().balancer(PickFirst::new()), 1).await;
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(200) && took < Duration::from_millis(1_500), "{took:?}");
    assert_eq!(shares(&channel, 20).await, only("b", 20));
    assert_eq!(second.accepted(), 1);
    assert_eq!(endpoint(&channel, "a").endpoint.state(), ConnectivityState::Idle, "the first is given up");
}

#[tokio::test]
async fn a_first_endpoint_that_never_speaks_costs_a_quarter_of_a_second() {
    let stage = Stage::new();
    let hole = Odd::silent().await;
    let _a = stage.sign_in("a", hole.address.clone(), 1).await;
    second_after_a_quarter_of_a_second(&stage).await;
}

#[tokio::test]
async fn a_first_endpoint_whose_queue_is_full_costs_a_quarter_of_a_second() {
    let stage = Stage::new();
    let deaf = Deaf::new();
    let _a = stage.sign_in("a", deaf.address.clone(), 1).await;
    second_after_a_quarter_of_a_second(&stage).await;
}

#[tokio::test]
async fn a_first_endpoint_that_refuses_costs_nothing() {
    let stage = Stage::new();
    let refusing = [Refusing::new(), Refusing::new(), Refusing::new()];
    let mut registrations = Vec::new();
    for (id, refusing) in ["a", "b", "c"].into_iter().zip(&refusing) {
        registrations.push(stage.sign_in(id, refusing.address.clone(), 1).await);
    }
    let (_server, _d) = stage.server("d").await;
    // With a head start for each it would take 6 s.
    let balancer = PickFirst::new().attempt_delay(Duration::from_secs(2));
    let begun = Instant::now();
    let channel = stage.builder().balancer(balancer).build().unwrap();
    assert_eq!(shares(&channel, 20).await, only("d", 20));
    assert!(begun.elapsed() < Duration::from_millis(1_900), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn changes_in_the_registry_do_not_keep_the_second_from_its_turn() {
    let stage = Stage::new();
    let hole = Odd::silent().await;
    let a = stage.sign_in("a", hole.address.clone(), 1).await;
    let (_server, _b) = stage.server("b").await;
    let channel = stage.builder().balancer(PickFirst::new()).build().unwrap();
    let begun = Instant::now();
    let mut weight = 1;
    while channel.state() != ConnectivityState::Ready && begun.elapsed() < Duration::from_secs(5) {
        weight += 1;
        a.update(|instance| instance.set_weight(weight));
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?} and {weight} changes", begun.elapsed());
    assert_eq!(shares(&channel, 10).await, only("b", 10));
    assert_eq!(hole.accepted(), 1, "the first is not dialled again for a change of weight");
}

#[tokio::test]
async fn what_works_is_kept_when_others_come_before_it() {
    let stage = Stage::new();
    let (server, _m) = stage.server("m").await;
    let channel = stage.channel(stage.builder().balancer(PickFirst::new()), 1).await;
    shares(&channel, 10).await;
    let (before, _a) = stage.server("a").await;
    let (_after, z) = stage.server("z").await;
    until_endpoints(&channel, &["a", "m", "z"]).await;
    assert_eq!(shares(&channel, 20).await, only("m", 20));
    z.deregister().await.unwrap();
    until_endpoints(&channel, &["a", "m"]).await;
    assert_eq!(shares(&channel, 20).await, only("m", 20));
    assert_eq!((server.accepted(), before.accepted()), (1, 0));
}

#[tokio::test]
async fn when_the_one_that_works_leaves_the_next_takes_over_and_no_call_fails() {
    let stage = Stage::new();
    let (a, leaver) = stage.server("a").await;
    let (_b, _b2) = stage.server("b").await;
    let channel = stage.channel(stage.builder().balancer(PickFirst::new()), 1).await;
    shares(&channel, 10).await;
    leaver.deregister().await.unwrap();
    let mut client = echo(&channel);
    until_endpoints(&channel, &["b"]).await;
    for _ in 0..20 {
        assert_eq!(in_time(client.unary(request())).await.unwrap().into_inner().server, "b");
    }
    until("its socket is closed", || a.connections() == 0).await;
}

#[tokio::test]
async fn when_the_one_that_works_dies_the_next_takes_over_and_no_waiting_call_fails() {
    let stage = Stage::new();
    let (a, _a) = stage.server("a").await;
    let (b, _b) = stage.server("b").await;
    let builder = stage.builder().balancer(PickFirst::new()).backoff(quick()).wait_for_ready(true);
    let channel = stage.channel(builder, 1).await;
    assert_eq!(shares(&channel, 10).await, only("a", 10));
    let address = a.address();
    a.kill().await;
    assert_eq!(shares(&channel, 50).await, only("b", 50));
    // The first comes back, and is not needed.
    let a = EchoServer::start_at("a", address).await.unwrap();
    assert_eq!(shares(&channel, 50).await, only("b", 50));
    b.kill().await;
    assert_eq!(shares(&channel, 50).await, only("a", 50));
    drop(a);
}

#[tokio::test]
async fn a_connection_that_the_server_ends_is_replaced_by_one_to_the_same_server() {
    let stage = Stage::new();
    // Longer than what counts as a connection that was no good.
    let configure = |server: tonic::transport::Server| server.max_connection_age(Duration::from_millis(1_300));
    let a = EchoServer::start_with("a", (Ipv4Addr::LOCALHOST, 0).into(), configure).await.unwrap();
    let _a = stage.sign_in("a", a.address().try_into().unwrap(), 1).await;
    let (b, _b) = stage.server("b").await;
    let channel = stage.channel(stage.builder().balancer(PickFirst::new()), 1).await;
    until("it is dialled again", || a.accepted() >= 2).await;
    assert_eq!(shares(&channel, 20).await, only("a", 20));
    assert_eq!(b.accepted(), 0, "the first has its head start again");
}

#[tokio::test]
async fn when_all_have_failed_each_is_dialled_again() {
    let stage = Stage::new();
    let (a, _a) = stage.server("a").await;
    let (b, _b) = stage.server("b").await;
    let address = b.address();
    let channel = stage.channel(stage.builder().balancer(PickFirst::new()).backoff(quick()), 1).await;
    a.kill().await;
    b.kill().await;
    let failing = || channel.state() == ConnectivityState::TransientFailure;
    until("both have failed", failing).await;
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    let again = EchoServer::start_at("b", address).await.unwrap();
    until_ready(&channel, 1).await;
    assert_eq!(again.calls(), 0, "no call was needed");
    assert_eq!(shares(&channel, 10).await, only("b", 10));
}
