//! Retries by the service's policy: how often, when, and after what.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use callboard::{ConnectivityState, ServedBy};
use callboard_raw::{Peer, RawServer};
use common::refusing::{Policy, QUICK, Refusing, SLOW, pushback, unavailable};
use common::{Stage, echo, endpoint, in_time, quick, request, tasks, until, until_config, waiting, within};
use tonic::{Code, Status};

/// A busy machine adds to a wait; this much it never adds.
const MUCH: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_call_is_tried_as_often_as_the_policy_says_and_the_server_is_told_which_attempt_it_sees() {
    for (says, attempts) in [(2, &["", "1"][..]), (3, &["", "1", "2"]), (100, &["", "1", "2", "3", "4"])] {
        let stage = Stage::new();
        let mut status = Status::unavailable("one two: ü");
        status.metadata_mut().insert("x-why", "because".parse().unwrap());
        let server = Refusing::always(&stage, "a", status).await;
        let channel = stage.channel(stage.under(&Policy { attempts: says, ..QUICK }).await, 1).await;
        let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
        assert_eq!(server.previous(), attempts);
        // The last answer as it came, and nothing of ours in it.
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "one two: ü"));
        assert_eq!(status.metadata().get("x-why").unwrap(), "because");
        let endpoint = endpoint(&channel, "a").endpoint;
        assert_eq!((endpoint.calls(), endpoint.in_flight()), (attempts.len() as u64, 0), "each attempt counts");
    }
}

#[tokio::test]
async fn a_call_that_succeeds_in_the_end_has_succeeded() {
    let stage = Stage::new();
    let server = Refusing::start(&stage, "a", [unavailable(), unavailable()]).await;
    let channel = stage.channel(stage.under(&QUICK).await, 1).await;
    let answer = in_time(echo(&channel).unary(request())).await.unwrap();
    assert_eq!(answer.extensions().get::<ServedBy>().unwrap().0.instance().id(), "a");
    assert_eq!((answer.get_ref().server.as_str(), server.previous()), ("a", vec!["".into(), "1".into(), "2".into()]));
}

#[tokio::test]
async fn waits_grow_from_the_first_to_the_longest() {
    let stage = Stage::new();
    let server = Refusing::always(&stage, "a", unavailable()).await;
    let (initial, max) = (Duration::from_millis(100), Duration::from_millis(300));
    let policy = Policy { initial, max, multiplier: 2.0, ..QUICK };
    let channel = stage.channel(stage.under(&policy).await, 1).await;
    in_time(echo(&channel).unary(request())).await.unwrap_err();
    let waits = server.waits();
    for (wait, plain) in waits.iter().zip([100, 200, 300, 300]) {
        let plain = Duration::from_millis(plain);
        assert!(*wait >= plain.mul_f64(0.8) && *wait < plain.mul_f64(1.2) + MUCH, "{waits:?}");
    }
    assert_eq!(waits.len(), 4);
}

#[tokio::test]
async fn a_code_that_is_not_listed_ends_the_call() {
    let stage = Stage::new();
    let not_listed = [Status::internal("no"), Status::not_found("no"), pushback(&["0"])];
    let server = Refusing::start(&stage, "a", not_listed).await;
    let channel = stage.channel(stage.under(&Policy { codes: &["ABORTED", "DATA_LOSS"], ..QUICK }).await, 1).await;
    for code in [Code::Internal, Code::NotFound, Code::Unavailable] {
        let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
    }
    assert_eq!(server.previous(), ["", "", ""]);
    *server.answers.lock().unwrap() = [Status::aborted("no"), Status::data_loss("no")].into();
    in_time(echo(&channel).unary(request())).await.unwrap();
    assert_eq!(server.previous()[3..], ["", "1", "2"]);
}

#[tokio::test]
async fn a_policy_holds_for_the_methods_that_it_names() {
    let stage = Stage::new();
    let server = Refusing::always(&stage, "a", unavailable()).await;
    let names = [
        (r#"{"service": "callboard.echo.v1.Echo", "method": "Unary"}"#, 5),
        (r#"{"service": "callboard.echo.v1.Echo"}"#, 5),
        (r#"{"service": "callboard.echo.v1.Echo", "method": "ServerStreaming"}"#, 1),
        (r#"{"service": "callboard.echo.v1.Other"}"#, 1),
    ];
    for (name, attempts) in names {
        stage.put_service_config(Some(&QUICK.config_with(name, ""))).await;
        let channel = stage.channel(stage.builder(), 1).await;
        let before = server.attempts().len();
        in_time(echo(&channel).unary(request())).await.unwrap_err();
        assert_eq!(server.attempts().len() - before, attempts, "{name}");
    }
}

#[tokio::test]
async fn a_policy_comes_changes_and_goes_while_the_channel_is_open() {
    let stage = Stage::new();
    let server = Refusing::always(&stage, "a", unavailable()).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let expected =
        [(Some(&Policy { attempts: 3, ..QUICK }), 3), (Some(&Policy { attempts: 2, ..QUICK }), 2), (None, 1)];
    for (policy, attempts) in expected {
        let config = policy.map(Policy::config);
        stage.put_service_config(config.as_deref()).await;
        until_config(&channel, config.as_deref()).await;
        let before = server.attempts().len();
        in_time(echo(&channel).unary(request())).await.unwrap_err();
        assert_eq!(server.attempts().len() - before, attempts);
    }
}

#[tokio::test]
async fn the_server_may_name_the_wait_and_the_others_start_anew_after_it() {
    let stage = Stage::new();
    // After the first, the wait would be 100 times as long.
    let policy = Policy { initial: Duration::from_millis(100), max: 100 * MUCH, multiplier: 1_000.0, ..QUICK };
    let server =
        Refusing::start(&stage, "a", [unavailable(), pushback(&["250"]), unavailable(), pushback(&["0"])]).await;
    let channel = stage.channel(stage.under(&policy).await, 1).await;
    in_time(echo(&channel).unary(request())).await.unwrap();
    let waits = server.waits();
    for (wait, least) in waits.iter().zip([80, 250, 80, 0]) {
        let least = Duration::from_millis(least);
        assert!(*wait >= least && *wait < least + MUCH, "{waits:?}");
    }
    assert_eq!(waits.len(), 4);
}

#[tokio::test]
async fn the_server_may_forbid_another_attempt() {
    let beyond_all_time = i64::MAX.to_string();
    for values in [&["-1"][..], &["soon"], &["1.5"], &[""], &["0", "0"], &[&beyond_all_time], &["2147483647"]] {
        let stage = Stage::new();
        let server = Refusing::always(&stage, "a", pushback(values)).await;
        let channel = stage.channel(stage.under(&QUICK).await, 1).await;
        let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "not now"));
        assert_eq!(server.attempts().len(), 1, "{values:?}");
    }
}

#[tokio::test]
async fn a_deadline_ends_a_wait_and_is_told_to_each_attempt_as_what_is_left() {
    let stage = Stage::new();
    let server = Refusing::start(&stage, "a", [pushback(&["100"]), unavailable()]).await;
    let channel = stage.channel(stage.under(&SLOW).await, 1).await;
    let (begun, deadline) = (Instant::now(), Duration::from_millis(600));
    let status = in_time(echo(&channel).unary(within(deadline, request()))).await.unwrap_err();
    assert!(begun.elapsed() >= deadline && begun.elapsed() < MUCH);
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let so_far = "while waiting to send the call again; after 2 failed attempts; the last: Unavailable: not now";
    assert!(status.message().contains(so_far), "{status:?}");
    let told: Vec<_> = server.attempts().iter().map(|attempt| attempt.timeout.unwrap()).collect();
    assert!(told.len() == 2 && told[0] <= deadline && told[1] + Duration::from_millis(100) <= told[0], "{told:?}");
    assert_eq!(endpoint(&channel, "a").endpoint.in_flight(), 0);
}

#[tokio::test]
async fn a_call_that_is_dropped_while_it_waits_leaves_nothing() {
    let stage = Stage::new();
    let server = Refusing::start(&stage, "a", [unavailable()]).await;
    let channel = stage.channel(stage.under(&SLOW).await, 1).await;
    let before = tasks();
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.unary(request()).await });
    until("it waits", || server.attempts().len() == 1 && endpoint(&channel, "a").endpoint.in_flight() == 0).await;
    assert!(!call.is_finished(), "its place on the connection is free while it waits");
    call.abort();
    assert!(in_time(call).await.unwrap_err().is_cancelled());
    until("the tasks are gone", || tasks() <= before).await;
    assert_eq!(endpoint(&channel, "a").endpoint.in_flight(), 0);
    in_time(echo(&channel).unary(request())).await.unwrap();
    assert_eq!(server.attempts().len(), 2);
}

#[tokio::test]
async fn another_attempt_goes_elsewhere_if_there_is_another_endpoint() {
    let stage = Stage::new();
    let failing = Refusing::always(&stage, "a", unavailable()).await;
    let _others = [stage.server("b").await, stage.server("c").await];
    let channel = stage.channel(stage.under(&Policy { attempts: 2, ..QUICK }).await, 3).await;
    const CALLS: usize = 60;
    for _ in 0..CALLS {
        let answer = in_time(echo(&channel).unary(request())).await.unwrap();
        assert_ne!(answer.into_inner().server, failing.id());
    }
    let attempts = failing.attempts();
    assert!((CALLS / 5..=CALLS).contains(&attempts.len()), "it had its share of first attempts: {}", attempts.len());
    assert!(attempts.iter().all(|attempt| attempt.previous.is_none()), "and no second one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_at_once_all_find_a_server_that_works() {
    let stage = Stage::new();
    let failing = Refusing::start(&stage, "a", std::iter::repeat_n(unavailable(), 100_000)).await;
    let others = [stage.server("b").await, stage.server("c").await];
    let channel = stage.channel(stage.under(&QUICK).await, 3).await;
    let before = tasks();
    const CALLERS: usize = 50;
    const CALLS: usize = 40;
    let callers = (0..CALLERS).map(|_| {
        let mut client = echo(&channel);
        tokio::spawn(async move {
            for _ in 0..CALLS {
                in_time(client.unary(request())).await.unwrap();
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
    let answered: u64 = others.iter().map(|(server, _)| server.calls()).sum();
    assert_eq!(answered, (CALLERS * CALLS) as u64);
    let at = |id| endpoint(&channel, id).endpoint;
    assert_eq!(at("a").calls(), failing.attempts().len() as u64);
    until("no attempt is in flight", || ["a", "b", "c"].iter().all(|id| at(id).in_flight() == 0)).await;
    until("the tasks are gone", || tasks() <= before).await;
}

#[tokio::test]
async fn calls_that_meet_several_failing_servers_try_each_of_them_once() {
    let stage = Stage::new();
    let mut failing = Vec::new();
    for id in ["a", "b", "c"] {
        failing.push(Refusing::always(&stage, id, unavailable()).await);
    }
    let _serving = stage.server("d").await;
    let channel = stage.channel(stage.under(&Policy { attempts: 4, ..QUICK }).await, 4).await;
    for _ in 0..20 {
        assert_eq!(in_time(echo(&channel).unary(request())).await.unwrap().into_inner().server, "d");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_grpcs_is_retried_by_the_code_that_grpc_gives_it() {
    let stage = Stage::new();
    let (server, _registration) = stage
        .raw("a", |mut peer: Peer| async move {
            peer.settings(&[]);
            let mut answered = 0;
            while let Some(request) = peer.request().await {
                answered += 1;
                if answered < 3 {
                    peer.headers(request.stream, &[(":status", "503"), ("content-type", "text/html")], false);
                    peer.data(request.stream, b"<p>too busy</p>", true);
                } else {
                    peer.answer(request.stream, "a");
                }
            }
        })
        .await;
    let channel = stage.channel(stage.under(&QUICK).await, 1).await;
    in_time(echo(&channel).unary(request())).await.unwrap();
    assert_eq!(server.stats().requests, 3);
}

#[tokio::test]
async fn while_every_endpoint_is_down_calls_that_do_not_wait_are_retried_and_may_meet_one_that_is_up() {
    let stage = Stage::new();
    let server = RawServer::start(|peer| callboard_raw::serve("a", peer)).await.unwrap();
    let address = server.address();
    let _registration = stage.sign_in("a", address.try_into().unwrap(), 1).await;
    let policy = Policy { attempts: 3, initial: Duration::from_millis(200), multiplier: 1.0, max: MUCH, ..QUICK };
    let channel = stage.channel(stage.under(&policy).await.backoff(quick()), 1).await;
    server.stop().await;
    let begun = Instant::now();
    let status = in_time(async {
        loop {
            // The connection's end may be news to the first of them.
            let status = echo(&channel).unary(request()).await.unwrap_err();
            if status.message().contains("after 2 failed attempts") {
                return status;
            }
        }
    });
    let status = status.await;
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(begun.elapsed() >= Duration::from_millis(2 * 160));
    let patient = Policy { attempts: 5, initial: Duration::from_secs(2), max: MUCH, ..policy };
    stage.put_service_config(Some(&patient.config())).await;
    until_config(&channel, Some(&patient.config())).await;
    let mut client = echo(&channel);
    let call = tokio::spawn(async move {
        loop {
            if let Ok(answer) = client.unary(request()).await {
                return answer;
            }
        }
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    let _server = RawServer::start_at(address, |peer| callboard_raw::serve("a", peer)).await.unwrap();
    assert_eq!(in_time(call).await.unwrap().into_inner().server, "a");
}

#[tokio::test]
async fn a_call_that_waits_for_ready_does_so_before_each_attempt() {
    let stage = Stage::new();
    // Refuses one call and closes; it takes further connections and never gets them ready.
    let (server, _registration) = stage
        .raw("a", |mut peer: Peer| async move {
            if peer.number() > 1 {
                return peer.ignore().await;
            }
            peer.settings(&[]);
            let Some(request) = peer.request().await else { return };
            peer.refuse(request.stream, "14");
            // Until that has been read, which is before the next PING or acknowledgement arrives.
            tokio::time::sleep(Duration::from_millis(100)).await;
        })
        .await;
    let policy = Policy { initial: Duration::from_millis(500), max: MUCH, ..QUICK };
    let channel = stage.channel(stage.under(&policy).await, 1).await;
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.unary(waiting(request())).await });
    until("it has failed, and nobody is there", || {
        server.stats().requests > 0 && channel.state() != ConnectivityState::Ready
    })
    .await;
    let other = Refusing::start(&stage, "b", []).await;
    assert_eq!(in_time(call).await.unwrap().unwrap().into_inner().server, "b");
    // "1", but for a machine so slow that the second attempt met the first server before that closed.
    assert_ne!(other.previous(), [""]);
}
