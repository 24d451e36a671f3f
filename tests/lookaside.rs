//! External balancers over real sockets: whose list decides, what it does, and what a balancer is told.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use callboard::lookaside::v1::{ClientStats, LoadBalanceResponse, Server};
use callboard::lookaside::{Decides, FallbackReason};
use callboard::{Address, ConnectivityState, Registry};
use common::lookaside::{Balancer, Noting, decides, served_by, until_fallback, until_listed};
use common::silent::Refusing;
use common::{Stage, echo, in_time, request, shares, slow, tasks, until, until_ready, waiting, within};
use tonic::Code;

fn entry(server: &callboard_echo::EchoServer) -> Server {
    Server::at(server.address(), "")
}

#[tokio::test]
async fn a_list_decides_and_its_tokens_reach_the_servers() {
    let stage = Stage::new();
    let (a, b, unlisted) = (Noting::start("a").await, Noting::start("b").await, Noting::start("c").await);
    let _signed_in = stage.sign_in("c", unlisted.server.address.try_into().unwrap(), 1).await;
    let balancer = Balancer::listing([a.entry("one"), b.entry("two"), a.entry("three"), a.entry("")]).await;
    let _balancer = stage.balancer("balancer", balancer.address()).await;
    let channel = stage.builder().build().unwrap();
    until_listed(&channel, 2).await;
    for _ in 0..400 {
        echo(&channel).unary(request()).await.unwrap();
    }
    assert_eq!([a.calls(Some("one")), a.calls(Some("three")), a.calls(None)], [100; 3]);
    assert_eq!((a.all_calls(), b.calls(Some("two")), b.all_calls()), (300, 100, 100));
    assert_eq!(unlisted.all_calls(), 0);

    assert_eq!(balancer.names(), ["project/test"], "the name is the one that was dialled");
    let connected: Vec<_> =
        channel.endpoints().iter().map(|status| status.endpoint.instance().address().clone()).collect();
    assert_eq!(connected, [Address::try_from(a.server.address).unwrap(), b.server.address.try_into().unwrap()]);
    let lookaside = channel.lookaside().unwrap();
    assert_eq!(lookaside.balancer, Some(balancer.address().try_into().unwrap()));
    let Decides::Balancer { servers: 2, entries: 4, drops: 0, skipped: 0, .. } = lookaside.decides else {
        panic!("{lookaside:?}")
    };
}

#[tokio::test]
async fn what_the_registry_knows_of_a_listed_server_is_shown() {
    let stage = Stage::new();
    let (a, _signed_in) = stage.server("known").await;
    let balancer = Balancer::listing([entry(&a)]).await;
    let _balancer = stage.balancer("balancer", balancer.address()).await;
    let channel = stage.builder().build().unwrap();
    until_listed(&channel, 1).await;
    assert_eq!(shares(&channel, 10).await["known"], 10);
}

#[tokio::test]
async fn drop_entries_fail_calls_that_wait_too() {
    let stage = Stage::new();
    let a = Noting::start("a").await;
    let said = [a.entry(""), Server::dropping("busy"), a.entry(""), Server::dropping("tired")];
    let balancer = Balancer::listing(said).await;
    let _balancer = stage.balancer("balancer", balancer.address()).await;
    let channel = stage.builder().build().unwrap();
    until_listed(&channel, 1).await;
    let mut messages = Vec::new();
    for _ in 0..200 {
        if let Err(status) = echo(&channel).unary(waiting(request())).await {
            assert_eq!(status.code(), Code::Unavailable);
            messages.push(status.message().to_owned());
        }
    }
    assert_eq!((messages.len(), a.all_calls()), (100, 100));
    for token in ["busy", "tired"] {
        let message = format!("request dropped by grpclb: drop entry {token:?}");
        assert_eq!(messages.iter().filter(|seen| **seen == message).count(), 50, "{:?}", messages.first());
    }
}

#[tokio::test]
async fn nothing_is_dropped_while_no_server_is_ready() {
    let (stage, refusing) = (Stage::new(), Refusing::new());
    let (_, port) = refusing.address.host_and_port().expect("host and port");
    let balancer = Balancer::start(Duration::ZERO).await;
    balancer.list([Server::dropping("busy"), Server::at(([127, 0, 0, 1], port).into(), "")]);
    let _balancer = stage.balancer("balancer", balancer.address()).await;
    let channel = stage.builder().build().unwrap();
    until("the server cannot be reached", || channel.state() == ConnectivityState::TransientFailure).await;
    for _ in 0..10 {
        let status = echo(&channel).unary(request()).await.unwrap_err();
        let message = status.message();
        assert!(!message.contains("dropped") && message.contains("refused"), "{message}");
        assert!(message.contains(&format!("balancer {} decides", balancer.address())), "{message}");
    }
    // A list of nothing but drops, and one of nothing: there is nobody to be ready.
    for said in [vec![Server::dropping("busy")], vec![]] {
        balancer.list(said);
        until("the list has come", || channel.endpoints().is_empty()).await;
        let waits = waiting(request()).into_inner();
        let mut waits = within(Duration::from_millis(50), waits);
        waits.extensions_mut().insert(callboard::WaitForReady(true));
        assert_eq!(echo(&channel).unary(waits).await.unwrap_err().code(), Code::DeadlineExceeded);
        let status = echo(&channel).unary(request()).await.unwrap_err();
        assert!(status.message().contains("the balancer's list has no server"), "{status}");
    }
}

fn sum(reports: &[ClientStats]) -> ClientStats {
    reports.iter().cloned().fold(ClientStats::default(), |mut sum, stats| {
        sum.num_calls_started += stats.num_calls_started;
        sum.num_calls_finished += stats.num_calls_finished;
        sum.num_calls_finished_known_received += stats.num_calls_finished_known_received;
        sum.num_calls_finished_with_client_failed_to_send += stats.num_calls_finished_with_client_failed_to_send;
        sum.calls_finished_with_drop.extend(stats.calls_finished_with_drop);
        sum
    })
}

#[tokio::test]
async fn reports_add_up_to_what_was_done() {
    let stage = Stage::new();
    let (a, _signed_in) = stage.server("a").await;
    let balancer = Balancer::start(Duration::from_millis(100)).await;
    balancer.list([entry(&a), Server::dropping("busy"), entry(&a), entry(&a)]);
    let _balancer = stage.balancer("balancer", balancer.address()).await;
    let channel = stage.builder().build().unwrap();
    until_listed(&channel, 1).await;
    let mut dropped = 0;
    for _ in 0..400 {
        dropped += i64::from(echo(&channel).unary(request()).await.is_err());
    }
    assert_eq!(dropped, 100);
    until("all is reported", || sum(&balancer.reports()).num_calls_finished == 400).await;
    // One that is under way has begun and not ended.
    let (mut client, held) = (echo(&channel), slow(60_000));
    let call = tokio::spawn(async move { while client.unary(held.clone()).await.is_err() {} });
    until("the call is with the server", || a.in_flight() == 1).await;
    until("the call is reported", || sum(&balancer.reports()).num_calls_started > 400).await;
    let all = sum(&balancer.reports());
    assert_eq!(all.num_calls_finished_known_received, 300);
    assert_eq!(all.num_calls_started - all.num_calls_finished, 1);
    assert_eq!(all.num_calls_finished_with_client_failed_to_send, 0);
    assert_eq!(all.dropped(), all.num_calls_finished - 300);
    assert!(all.calls_finished_with_drop.iter().all(|token| token.load_balance_token == "busy"));
    call.abort();
    until("its end is reported", || {
        let all = sum(&balancer.reports());
        all.num_calls_started == all.num_calls_finished
    })
    .await;
    assert_eq!(sum(&balancer.reports()).num_calls_finished_known_received, 300, "it was never answered");

    let reports = balancer.reports();
    assert!(reports.iter().all(|stats| stats.timestamp.is_some_and(|time| time.seconds > 1_700_000_000)));
    // Of several that say nothing, one is sent: what comes after it says something.
    until("there is silence", || balancer.reports().last().is_some_and(ClientStats::is_zero)).await;
    let silent = balancer.reports().len();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(balancer.reports().len(), silent);
    while echo(&channel).unary(request()).await.is_err() {}
    until("the next call is reported", || balancer.reports().len() > silent).await;
    assert!(balancer.reports().windows(2).all(|two| !(two[0].is_zero() && two[1].is_zero())));
}

#[tokio::test]
async fn a_request_that_never_left_is_reported_as_such() {
    let stage = Stage::new();
    let (a, _signed_in) = stage.server("a").await;
    let balancer = Balancer::start(Duration::from_millis(100)).await;
    balancer.list([entry(&a)]);
    let _balancer = stage.balancer("balancer", balancer.address()).await;
    let channel = stage.builder().build().unwrap();
    until_listed(&channel, 1).await;
    // More metadata than the server takes.
    let mut large = tonic::Request::new(request());
    large.metadata_mut().insert("large", "x".repeat(1 << 20).parse().unwrap());
    assert_eq!(echo(&channel).unary(large).await.unwrap_err().code(), Code::Internal);
    until("it is reported", || sum(&balancer.reports()).num_calls_finished == 1).await;
    let all = sum(&balancer.reports());
    assert_eq!((all.num_calls_finished_with_client_failed_to_send, all.num_calls_finished_known_received), (1, 0));
}

#[tokio::test]
async fn no_reports_are_sent_unless_they_are_asked_for() {
    let stage = Stage::new();
    let (a, _signed_in) = stage.server("a").await;
    let balancer = Balancer::listing([entry(&a)]).await;
    let _balancer = stage.balancer("balancer", balancer.address()).await;
    let channel = stage.builder().build().unwrap();
    until_listed(&channel, 1).await;
    shares(&channel, 10).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(balancer.reports(), []);
}

#[tokio::test]
async fn entries_that_make_no_sense_are_skipped_and_a_list_of_them_alone_is_ignored() {
    let stage = Stage::new();
    let (a, _signed_in) = stage.server("a").await;
    let bad = |ip_address: &[u8], port| Server { ip_address: ip_address.to_vec(), port, ..Server::default() };
    let garbage = [bad(&[1, 2, 3], 80), bad(&[127, 0, 0, 1], 0), bad(&[127, 0, 0, 1], 1 << 16), bad(&[], -1)];
    let balancer = Balancer::listing(garbage.iter().cloned().chain([entry(&a)])).await;
    let _balancer = stage.balancer("balancer", balancer.address()).await;
    let channel = stage.builder().build().unwrap();
    until_listed(&channel, 1).await;
    assert!(matches!(decides(&channel), Some(Decides::Balancer { entries: 1, skipped: 4, .. })));
    assert_eq!(shares(&channel, 10).await["a"], 10);
    balancer.list(garbage);
    // What a balancer says is heard in order: when the next list has come, the one before was heard.
    balancer.list([entry(&a), Server::dropping("busy")]);
    until("the next list has come", || matches!(decides(&channel), Some(Decides::Balancer { drops: 1, .. }))).await;
    assert_eq!(a.accepted(), 1, "its connection has stayed");
}

#[tokio::test]
async fn a_new_list_is_followed_and_connections_of_what_stays_are_kept() {
    let stage = Stage::new();
    let ((a, _in_a), (b, _in_b), (c, _in_c)) =
        (stage.server("a").await, stage.server("b").await, stage.server("c").await);
    let balancer = Balancer::listing([entry(&a), entry(&b)]).await;
    let _balancer = stage.balancer("balancer", balancer.address()).await;
    let channel = stage.builder().build().unwrap();
    until_listed(&channel, 2).await;
    assert_eq!(shares(&channel, 10).await["a"], 5);
    // A call that is under way on what is removed goes on.
    let mut client = echo(&channel);
    let held = tokio::spawn(async move {
        loop {
            let answer = client.unary(slow(500)).await.unwrap().into_inner();
            if answer.server == "b" {
                return answer;
            }
        }
    });
    until("b has the call", || b.in_flight() == 1).await;
    balancer.list([entry(&a), entry(&c), entry(&c)]);
    until("the list has come", || matches!(decides(&channel), Some(Decides::Balancer { entries: 3, .. }))).await;
    until_ready(&channel, 2).await;
    let after = shares(&channel, 30).await;
    assert_eq!((after["a"], after["c"], after.get("b")), (10, 20, None));
    assert_eq!(in_time(held).await.unwrap().server, "b");
    in_time(b.until(|b| b.connections() == 0)).await;
    assert_eq!((a.accepted(), b.accepted(), c.accepted()), (1, 1, 1));
}

#[tokio::test]
async fn balancers_take_over_from_backends_in_use_and_give_back_when_they_leave() {
    let stage = Stage::new();
    let ((a, _in_a), (_b, _in_b)) = (stage.server("a").await, stage.server("b").await);
    let channel = stage.channel(stage.builder(), 2).await;
    assert!(channel.lookaside().is_none());
    assert_eq!(shares(&channel, 10).await["b"], 5);

    let balancer = Balancer::start(Duration::ZERO).await;
    let signed_in = stage.balancer("balancer", balancer.address()).await;
    until("the balancer is asked", || balancer.open() == 1).await;
    until_fallback(&channel, FallbackReason::FirstList).await;
    assert_eq!(shares(&channel, 10).await["b"], 5, "the backends are used until there is a list");
    balancer.list([entry(&a)]);
    until_listed(&channel, 1).await;
    assert_eq!(shares(&channel, 10).await["a"], 10);

    in_time(signed_in.deregister()).await.unwrap();
    until("the conversation has ended", || balancer.open() == 0 && channel.lookaside().is_none()).await;
    until_ready(&channel, 2).await;
    assert_eq!(shares(&channel, 10).await["b"], 5);
    assert_eq!(a.accepted(), 1, "its connection was never lost");
}

#[tokio::test]
async fn in_fallback_the_channel_s_own_balancer_decides() {
    let stage = Stage::new();
    let ((a, _in_a), (b, _in_b)) = (stage.weighted("a", 3).await, stage.weighted("b", 1).await);
    let balancer = Balancer::listing([entry(&a), entry(&b)]).await;
    let _balancer = stage.balancer("balancer", balancer.address()).await;
    let channel = stage.builder().balancer(callboard::balancer::Weighted::new()).build().unwrap();
    until_listed(&channel, 2).await;
    assert_eq!(shares(&channel, 40).await["a"], 20, "the list knows no weights");
    balancer.say(&LoadBalanceResponse::fallback());
    until_fallback(&channel, FallbackReason::Asked).await;
    until_ready(&channel, 2).await;
    assert_eq!(shares(&channel, 40).await["a"], 30);
    let message = format!("{}", channel.lookaside().unwrap());
    assert!(message.contains("fallback"), "{message}");
    balancer.list([entry(&a), entry(&b)]);
    until_listed(&channel, 2).await;
    assert_eq!(shares(&channel, 40).await["a"], 20, "the same list ends it");
    assert_eq!((a.accepted(), b.accepted()), (1, 1));
}

#[tokio::test]
async fn all_servers_of_a_list_are_connected_whatever_the_channel_s_own_balancer_would_do() {
    let stage = Stage::new();
    let ((a, _in_a), (b, _in_b)) = (stage.server("a").await, stage.server("b").await);
    let balancer = Balancer::listing([entry(&a), entry(&b)]).await;
    let channel = stage.builder().balancer(callboard::balancer::PickFirst::new()).build().unwrap();
    until_ready(&channel, 1).await;
    assert_eq!(shares(&channel, 10).await.len(), 1, "nobody else decides yet");
    let signed_in = stage.balancer("balancer", balancer.address()).await;
    until_listed(&channel, 2).await;
    assert_eq!(shares(&channel, 40).await["a"], 20);
    for _ in 0..2 {
        balancer.say(&LoadBalanceResponse::fallback());
        until_fallback(&channel, FallbackReason::Asked).await;
        until_ready(&channel, 1).await;
        assert_eq!(shares(&channel, 10).await.len(), 1, "its own balancer decides");
        balancer.list([entry(&a), entry(&b)]);
        until_listed(&channel, 2).await;
        assert_eq!(shares(&channel, 40).await["a"], 20);
    }
    signed_in.deregister().await.unwrap();
    until("nobody else decides any more", || decides(&channel).is_none()).await;
    until_ready(&channel, 1).await;
    assert_eq!(shares(&channel, 10).await.len(), 1);
}

#[tokio::test]
async fn the_config_holds_for_calls_that_wait_for_the_first_list() {
    let stage = Stage::new();
    let balancer = Balancer::start(Duration::ZERO).await;
    let _balancer = stage.balancer("balancer", balancer.address()).await;
    let config = r#"{"methodConfig":[{"name":[{}],"timeout":"0.2s","waitForReady":true}]}"#;
    stage.board.put_service_config(&stage.service, Some(config)).await.unwrap();
    let channel = stage.builder().fallback_timeout(Duration::from_secs(600)).build().unwrap();
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(status.message().contains("200ms"), "{status}");
    assert_eq!(channel.service_config().active.as_deref(), Some(config));
}

#[tokio::test]
async fn a_channel_that_is_dropped_leaves_nothing() {
    let stage = Stage::new();
    let (a, _signed_in) = stage.server("a").await;
    let balancer = Balancer::listing([entry(&a)]).await;
    let _balancer = stage.balancer("balancer", balancer.address()).await;
    // What the balancer's server needs for its first connection is not the channel's.
    drop(stage.builder().build().unwrap());
    let channel = stage.builder().build().unwrap();
    until_listed(&channel, 1).await;
    drop(channel);
    until("the first conversation has ended", || balancer.open() == 0).await;
    in_time(a.until(|a| a.connections() == 0)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = tasks();
    for _ in 0..3 {
        let channel = stage.builder().build().unwrap();
        until_listed(&channel, 1).await;
        shares(&channel, 10).await;
        drop(channel);
        until("the conversation has ended", || balancer.open() == 0).await;
    }
    until("no task is left", || tasks() <= before).await;
}

#[tokio::test]
async fn many_clients_ask_different_balancers() {
    let stage = Stage::new();
    let (a, _signed_in) = stage.server("a").await;
    let mut balancers = Vec::new();
    for id in ["b0", "b1", "b2"] {
        let balancer = Balancer::listing([entry(&a)]).await;
        balancers.push((stage.balancer(id, balancer.address()).await, balancer));
    }
    let mut channels = Vec::new();
    for _ in 0..40 {
        channels.push(stage.builder().build().unwrap());
    }
    for channel in &channels {
        until_listed(channel, 1).await;
        assert_eq!(served_by(channel).await.unwrap(), a.address().try_into().unwrap());
    }
    let asked: BTreeSet<_> = channels.iter().filter_map(|channel| channel.lookaside()?.balancer).collect();
    assert_eq!(asked.len(), 3);
}
