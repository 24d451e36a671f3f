//! External balancers that fail: what becomes of calls meanwhile, and who is asked next.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use callboard::lookaside::FallbackReason;
use callboard::lookaside::v1::{LoadBalanceResponse, Server};
use callboard::{Address, Channel, ChannelBuilder, ConnectivityState};
use callboard_echo::EchoServer;
use callboard_raw::Peer;
use common::lookaside::{Balancer, decides, served_by, until_fallback, until_listed};
use common::silent::{Deaf, Odd, Refusing, SETTINGS};
use common::{Stage, echo, in_time, quick, request, shares, tasks, until, until_ready, waiting};
use tokio::time::Instant;
use tonic::Code;

fn entry(server: &EchoServer) -> Server {
    Server::at(server.address(), "")
}

impl Stage {
    /// A builder whose retries and waits are short.
    fn hurried(&self) -> ChannelBuilder {
        self.builder().backoff(quick()).fallback_timeout(Duration::from_millis(300))
    }
}

fn balancer(channel: &Channel) -> Option<Address> {
    channel.lookaside()?.balancer
}

#[tokio::test]
async fn when_a_balancer_dies_the_next_one_is_asked_and_the_list_is_kept() {
    let stage = Stage::new();
    let ((a, _in_a), (_plain, _in_plain)) = (stage.server("a").await, stage.server("plain").await);
    let balancers = [Balancer::listing([entry(&a)]).await, Balancer::listing([entry(&a)]).await];
    let _first = stage.balancer("b0", balancers[0].address()).await;
    let _second = stage.balancer("b1", balancers[1].address()).await;
    let channel = stage.builder().build().unwrap();
    until_listed(&channel, 1).await;
    for _ in 0..2 {
        let asked = balancer(&channel).unwrap();
        let (dying, other) = match asked == balancers[0].address().try_into().unwrap() {
            true => (&balancers[0], &balancers[1]),
            false => (&balancers[1], &balancers[0]),
        };
        let call = tokio::spawn({
            let channel = channel.clone();
            async move { shares(&channel, 2_000).await }
        });
        dying.kill().await;
        until("the other one is asked", || balancer(&channel) == Some(other.address().try_into().unwrap())).await;
        let shares = in_time(call).await.unwrap();
        assert_eq!(shares.get("a"), Some(&2_000), "no call has failed, and none went elsewhere");
        assert_eq!((dying.open(), other.open()), (0, 1));
        // It comes back, for the next turn.
        dying.revive().await;
    }
    assert_eq!(a.accepted(), 1);
}

#[tokio::test]
async fn a_list_is_kept_while_no_balancer_is_there() {
    let stage = Stage::new();
    let ((a, _in_a), (_plain, _in_plain)) = (stage.server("a").await, stage.server("plain").await);
    let lone = Balancer::listing([entry(&a)]).await;
    let _lone = stage.balancer("balancer", lone.address()).await;
    let channel = stage.hurried().build().unwrap();
    until_listed(&channel, 1).await;
    lone.kill().await;
    until("its loss is noticed", || balancer(&channel).is_none()).await;
    // Longer than the wait for a first list.
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(shares(&channel, 20).await["a"], 20);
    let lookaside = channel.lookaside().unwrap();
    assert!(lookaside.to_string().contains("the last list of a balancer decides"), "{lookaside}");
    assert!(lookaside.error.is_some(), "{lookaside}");
    lone.revive().await;
    until("it is asked again", || balancer(&channel).is_some()).await;
    assert!(channel.lookaside().unwrap().error.is_none());
}

#[tokio::test]
async fn when_the_servers_of_the_list_die_too_the_backends_are_used() {
    let stage = Stage::new();
    let (listed, (_plain, _in_plain)) = (EchoServer::start("listed").await.unwrap(), stage.server("plain").await);
    let lone = Balancer::listing([entry(&listed)]).await;
    let _lone = stage.balancer("balancer", lone.address()).await;
    let channel = stage.hurried().build().unwrap();
    until_listed(&channel, 1).await;
    lone.kill().await;
    until("its loss is noticed", || balancer(&channel).is_none()).await;
    listed.kill().await;
    until_fallback(&channel, FallbackReason::Lost).await;
    until_ready(&channel, 1).await;
    assert_eq!(shares(&channel, 20).await["plain"], 20);
    // The balancer's return does not end it, its list does.
    let again = EchoServer::start("again").await.unwrap();
    lone.list([entry(&again)]);
    lone.revive().await;
    until_listed(&channel, 1).await;
    assert_eq!(served_by(&channel).await.unwrap(), again.address().try_into().unwrap());
}

#[tokio::test]
async fn without_backends_to_fall_back_to_the_list_is_kept_although_its_servers_are_down() {
    let stage = Stage::new();
    let listed = EchoServer::start("listed").await.unwrap();
    let address = listed.address();
    let lone = Balancer::listing([entry(&listed)]).await;
    let _lone = stage.balancer("balancer", lone.address()).await;
    let channel = stage.hurried().build().unwrap();
    until_listed(&channel, 1).await;
    lone.kill().await;
    listed.kill().await;
    until("all is lost", || channel.state() == ConnectivityState::TransientFailure).await;
    let status = echo(&channel).unary(request()).await.unwrap_err();
    assert!(status.message().contains("the last list of a balancer decides"), "{status}");
    let _again = EchoServer::start_at("again", address).await.unwrap();
    until_ready(&channel, 1).await;
    assert_eq!(served_by(&channel).await.unwrap(), address.try_into().unwrap());
}

#[tokio::test]
async fn when_no_balancer_can_be_reached_the_backends_are_used_after_a_while() {
    let stage = Stage::new();
    let (_plain, _in_plain) = stage.server("plain").await;
    let (refusing, deaf, silent) = (Refusing::new(), Deaf::new(), Odd::silent().await);
    for (id, address) in [("b0", &refusing.address), ("b1", &deaf.address), ("b2", &silent.address)] {
        Box::leak(Box::new(stage.balancer(id, address.clone()).await));
    }
    let begun = Instant::now();
    let channel = stage.hurried().build().unwrap();
    // Meanwhile calls wait, also those that do not wait for ready: there is hope.
    let answer = in_time(echo(&channel).unary(request())).await.unwrap();
    assert_eq!(answer.get_ref().server, "plain");
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    until_fallback(&channel, FallbackReason::Timeout).await;
    assert!(balancer(&channel).is_none());
}

#[tokio::test]
async fn when_every_balancer_refuses_the_backends_are_used_at_once_and_balancers_are_tried_on() {
    let stage = Stage::new();
    let ((a, _in_a), (_plain, _in_plain)) = (stage.server("a").await, stage.server("plain").await);
    let (refusing, later) = (Refusing::new(), Balancer::listing([entry(&a)]).await);
    later.kill().await;
    let _refusing = stage.balancer("b0", refusing.address.clone()).await;
    let _later = stage.balancer("b1", later.address()).await;
    let hour = Duration::from_secs(3600);
    let channel = stage.builder().backoff(quick()).fallback_timeout(hour).build().unwrap();
    // A call that does not wait for ready, nor for a list.
    in_time(echo(&channel).unary(request())).await.unwrap();
    until_fallback(&channel, FallbackReason::Unreachable).await;
    until_ready(&channel, 2).await;
    assert_eq!(shares(&channel, 20).await["plain"], 10);
    later.revive().await;
    until_listed(&channel, 1).await;
    assert_eq!(shares(&channel, 20).await["a"], 20);
}

#[tokio::test]
async fn balancers_are_ignored_where_they_are_not_to_be_asked() {
    let stage = Stage::new();
    let ((elsewhere, _in_a), (_plain, _in_plain)) = (stage.server("a").await, stage.server("plain").await);
    let balancer = Balancer::listing([entry(&elsewhere)]).await;
    let record = stage.balancer("zz", balancer.address()).await;
    let channel = stage.channel(stage.builder().external_balancers(false), 2).await;
    let even = || async { shares(&channel, 20).await.into_values().eq([10, 10]) };
    assert!(even().await && channel.lookaside().is_none());
    // Nor while it is in use.
    in_time(record.deregister()).await.unwrap();
    let _again = stage.balancer("zz", balancer.address()).await;
    let (_third, _in_third) = stage.server("third").await;
    until_ready(&channel, 3).await;
    assert_eq!((channel.lookaside().is_none(), balancer.names().len()), (true, 0));
}

#[tokio::test]
async fn the_first_list_is_waited_for_as_long_as_grpc_does() {
    let stage = Stage::new();
    let (_plain, _in_plain) = stage.server("plain").await;
    let lone = Balancer::start(Duration::ZERO).await;
    let _lone = stage.balancer("balancer", lone.address()).await;
    let begun = Instant::now();
    let channel = stage.builder().build().unwrap();
    let answer = in_time(echo(&channel).unary(request())).await.unwrap();
    assert_eq!(answer.get_ref().server, "plain");
    assert!(begun.elapsed() >= Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(lone.open(), 1, "the balancer that has nothing to say yet goes on being asked");
}

#[tokio::test]
async fn without_backends_calls_fail_after_a_while_and_say_why() {
    let (stage, refusing) = (Stage::new(), Refusing::new());
    let _lone = stage.balancer("balancer", refusing.address.clone()).await;
    let channel = stage.hurried().build().unwrap();
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("no balancer sent a list in time"), "{status}");
    let why = format!("none of 1 balancers can be reached: {}", refusing.address);
    assert!(status.message().contains(&why) && status.message().contains("refused"), "{status}");
    // One that waits is answered as soon as anybody is there.
    let mut client = echo(&channel);
    let waits = tokio::spawn(async move { client.unary(waiting(request())).await });
    let (_plain, _in_plain) = stage.server("plain").await;
    assert_eq!(in_time(waits).await.unwrap().unwrap().get_ref().server, "plain");
}

#[tokio::test]
async fn a_balancer_that_cannot_be_reached_does_not_keep_the_others_waiting() {
    let stage = Stage::new();
    let (a, _in_a) = stage.server("a").await;
    let (deaf, silent, refusing) = (Deaf::new(), Odd::silent().await, Refusing::new());
    let good = Balancer::listing([entry(&a)]).await;
    let addresses =
        [deaf.address.clone(), silent.address.clone(), refusing.address.clone(), good.address().try_into().unwrap()];
    for (index, address) in addresses.into_iter().enumerate() {
        Box::leak(Box::new(stage.balancer(&format!("b{index}"), address).await));
    }
    for _ in 0..5 {
        let channel = stage.builder().build().unwrap();
        until_listed(&channel, 1).await;
        assert_eq!(balancer(&channel), Some(good.address().try_into().unwrap()));
    }
}

#[tokio::test]
async fn a_balancer_that_does_not_speak_the_protocol_is_left_for_another_one() {
    let stage = Stage::new();
    let (a, _in_a) = stage.server("a").await;
    // One that knows no such service, one that answers with something else, one that never answers a call.
    let other_service = EchoServer::start("not a balancer").await.unwrap();
    let nonsense = callboard_raw::RawServer::start(|peer| callboard_raw::serve("nonsense", peer)).await.unwrap();
    let mute = callboard_raw::RawServer::start(|mut peer: Peer| async move {
        peer.settings(&[]);
        while peer.opened().await.is_some() {}
    });
    let mute = mute.await.unwrap();
    let good = Balancer::listing([entry(&a)]).await;
    let addresses = [other_service.address(), nonsense.address(), mute.address(), good.address()];
    for (index, address) in addresses.into_iter().enumerate() {
        Box::leak(Box::new(stage.balancer(&format!("b{index}"), address).await));
    }
    for _ in 0..5 {
        let channel = stage.hurried().build().unwrap();
        until_listed(&channel, 1).await;
        assert_eq!(balancer(&channel), Some(good.address().try_into().unwrap()));
    }
    assert_eq!(other_service.calls(), 0);
}

#[tokio::test]
async fn a_conversation_that_fails_before_the_first_list_is_not_waited_for() {
    let stage = Stage::new();
    let (_plain, _in_plain) = stage.server("plain").await;
    let other_service = EchoServer::start("not a balancer").await.unwrap();
    let _balancer = stage.balancer("balancer", other_service.address()).await;
    let channel = stage.builder().fallback_timeout(Duration::from_secs(3600)).build().unwrap();
    until_fallback(&channel, FallbackReason::Lost).await;
    assert_eq!(shares(&channel, 10).await["plain"], 10);
    let message = channel.lookaside().unwrap().to_string();
    assert!(message.contains("Unimplemented"), "{message}");
    assert_eq!(other_service.calls(), 0, "a balancer gets no calls of the service");
}

#[tokio::test]
async fn a_balancer_that_answers_and_hangs_up_is_asked_with_pauses() {
    let stage = Stage::new();
    let (a, _in_a) = stage.server("a").await;
    let lone = Balancer::listing([entry(&a)]).await;
    let _lone = stage.balancer("balancer", lone.address()).await;
    let channel = stage.builder().build().unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        lone.hang_up();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Twice at once, then after about 1 s, 1.6 s and so on.
    let asked = lone.names().len();
    assert!((2..=5).contains(&asked), "{asked}");
    assert_eq!(shares(&channel, 10).await["a"], 10);
}

#[tokio::test]
async fn intervals_without_measure_are_harmless() {
    let stage = Stage::new();
    let (a, _in_a) = stage.server("a").await;
    for interval in [Duration::MAX, Duration::from_nanos(1)] {
        let lone = Balancer::start(interval).await;
        lone.list([entry(&a)]);
        let _lone = stage.balancer("balancer", lone.address()).await;
        let channel = stage.builder().fallback_timeout(Duration::MAX).build().unwrap();
        until_listed(&channel, 1).await;
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            shares(&channel, 10).await;
        }
        assert!(lone.reports().len() as u128 <= begun.elapsed().as_millis() / 100, "{}", lone.reports().len());
        assert_eq!(lone.names().len(), 1);
    }
}

#[tokio::test]
async fn when_the_registry_no_longer_lists_a_balancer_its_conversation_ends() {
    let stage = Stage::new();
    let (a, _in_a) = stage.server("a").await;
    let (leaving, staying) = (Balancer::listing([entry(&a)]).await, Balancer::listing([entry(&a)]).await);
    let signed_in = stage.balancer("leaving", leaving.address()).await;
    let channel = stage.builder().build().unwrap();
    until_listed(&channel, 1).await;
    let _staying = stage.balancer("staying", staying.address()).await;
    in_time(signed_in.deregister()).await.unwrap();
    until("the other one is asked", || balancer(&channel) == Some(staying.address().try_into().unwrap())).await;
    assert_eq!((leaving.open(), staying.open()), (0, 1));
    assert_eq!(shares(&channel, 10).await["a"], 10);
}

#[tokio::test]
async fn a_balancer_that_says_hello_and_falls_silent_is_given_up() {
    let stage = Stage::new();
    let (a, _in_a) = stage.server("a").await;
    let balancers = [Balancer::listing([entry(&a)]).await, Balancer::listing([entry(&a)]).await];
    let _first = stage.balancer("b0", balancers[0].address()).await;
    let channel = stage.builder().build().unwrap();
    until_listed(&channel, 1).await;
    balancers[0].vanish().await;
    let _second = stage.balancer("b1", balancers[1].address()).await;
    // Its connection is asked for a sign of life after 20 s, which it has 10 s for.
    let limit = Duration::from_secs(90);
    let found = async {
        while balancer(&channel) != Some(balancers[1].address().try_into().unwrap()) {
            shares(&channel, 10).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(limit, found).await.unwrap_or_else(|_| panic!("{:?}", channel.lookaside()));
}

#[tokio::test]
async fn a_balancer_that_talks_without_end_holds_nobody_up() {
    let stage = Stage::new();
    let (a, _in_a) = stage.server("a").await;
    let lone = Balancer::listing([entry(&a)]).await;
    let _lone = stage.balancer("balancer", lone.address()).await;
    let channel = stage.builder().build().unwrap();
    until_listed(&channel, 1).await;
    let copies = |count: usize| std::iter::repeat_n(entry(&a), 1 + count % 50);
    for round in 0..20_000 {
        lone.list(copies(round));
        if round % 1_000 == 0 {
            shares(&channel, 10).await;
        }
    }
    lone.list([entry(&a), Server::dropping("last")]);
    until("the last list decides", || format!("{:?}", decides(&channel)).contains("drops: 1")).await;
    assert_eq!(a.accepted(), 1);
}

#[tokio::test]
async fn garbage_in_the_middle_of_a_conversation_ends_it_and_not_the_channel() {
    let stage = Stage::new();
    let (_plain, _in_plain) = stage.server("plain").await;
    let hangs_up = Odd::hanging_up(SETTINGS).await;
    // The initial response, and then a message that is no protobuf.
    let initial = prost_bytes(&LoadBalanceResponse::initial(Duration::from_millis(100)));
    let garbage = callboard_raw::RawServer::start(move |mut peer: Peer| {
        let initial = initial.clone();
        async move {
            peer.settings(&[]);
            while let Some(stream) = peer.opened().await {
                peer.head(stream);
                peer.data(stream, &initial, false);
                peer.data(stream, &[0, 0, 0, 0, 3, 0xff, 0xff, 0xff], false);
            }
        }
    });
    let garbage = garbage.await.unwrap();
    let _first = stage.balancer("garbage", garbage.address()).await;
    let _second = stage.balancer("hangs_up", hangs_up.address.clone()).await;
    let channel = stage.hurried().build().unwrap();
    until_fallback(&channel, FallbackReason::Lost).await;
    assert_eq!(shares(&channel, 10).await["plain"], 10);
    let asked = hangs_up.accepted();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(hangs_up.accepted() - asked <= 20, "{asked} {}: they are asked with pauses", hangs_up.accepted());
    let before = tasks();
    drop(channel);
    until("its tasks have ended", || tasks() < before).await;
}

/// A message with gRPC's prefix.
fn prost_bytes(message: &LoadBalanceResponse) -> Vec<u8> {
    let message = prost::Message::encode_to_vec(message);
    let mut bytes = vec![0];
    bytes.extend((message.len() as u32).to_be_bytes());
    bytes.extend(message);
    bytes
}
