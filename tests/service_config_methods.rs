//! The service's config says how long the calls of a method may take, and whether they wait.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use callboard::{Channel, Dialer, Registration, WaitForReady};
use callboard_echo::pb::{EchoRequest, EchoResponse};
use common::scripted::Scripted;
use common::{Stage, echo, in_time, request, slow, until, until_config, waiting, within};
use tonic::{Code, Request, Response, Status};

const SERVICE: &str = "callboard.echo.v1.Echo";
/// A server that takes this long is never waited for.
const NEVER: u32 = 60_000;

/// A config with this entry for the method `Unary`, and one for the whole service that ends all others at once.
fn for_unary(says: &str) -> String {
    format!(
        r#"{{"methodConfig": [
            {{"name": [{{"service": "{SERVICE}", "method": "Unary"}}], {says}}},
            {{"name": [{{"service": "{SERVICE}"}}], "timeout": "0.001s"}}
        ]}}"#
    )
}

async fn unary(channel: &Channel, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
    in_time(echo(channel).unary(request)).await
}

/// The call is ended by its deadline; the time that it was given.
async fn given(channel: &Channel, request: Request<EchoRequest>) -> String {
    let status = unary(channel, request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    let given = status.message().strip_prefix("deadline of ").and_then(|rest| rest.split_once(" exceeded"));
    given.unwrap_or_else(|| panic!("{status}")).0.to_owned()
}

#[tokio::test]
async fn the_smaller_of_the_calls_and_the_methods_timeout_counts() {
    let stage = Stage::new();
    let (_server, _a) = stage.server("a").await;
    let config = for_unary(r#""timeout": "0.3s""#);
    stage.put_service_config(Some(&config)).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let late = || slow(NEVER);
    assert_eq!(given(&channel, Request::new(late())).await, "300ms");
    assert_eq!(given(&channel, within(Duration::from_millis(100), late())).await, "100ms");
    assert_eq!(given(&channel, within(Duration::from_secs(30), late())).await, "300ms");
    unary(&channel, Request::new(request())).await.expect("a call in time is as ever");

    // The service's entry is for its other methods; of a stream, the deadline covers the answers too.
    let one = EchoRequest { repeat: 1, ..slow(NEVER) };
    let streaming = async { echo(&channel).server_streaming(one).await?.into_inner().message().await };
    let status = in_time(streaming).await.unwrap_err();
    assert!(status.message().starts_with("deadline of 1ms exceeded"), "{status}");
}

#[tokio::test]
async fn the_builders_timeout_is_for_methods_of_which_the_config_says_none() {
    let stage = Stage::new();
    let (_server, _a) = stage.server("a").await;
    let channel = stage.channel(stage.builder().timeout(Duration::from_millis(200)), 1).await;
    assert_eq!(given(&channel, Request::new(slow(NEVER))).await, "200ms");

    let longer = for_unary(r#""timeout": "30s""#);
    stage.put_service_config(Some(&longer)).await;
    until_config(&channel, Some(&longer)).await;
    unary(&channel, Request::new(slow(600))).await.expect("the config's stands in the place of the builder's");

    let other = for_unary(r#""waitForReady": false"#);
    stage.put_service_config(Some(&other)).await;
    until_config(&channel, Some(&other)).await;
    assert_eq!(given(&channel, Request::new(slow(NEVER))).await, "200ms");

    stage.put_service_config(Some(&longer)).await;
    until_config(&channel, Some(&longer)).await;
    stage.put_service_config(None).await;
    until_config(&channel, None).await;
    assert_eq!(given(&channel, Request::new(slow(NEVER))).await, "200ms", "a config that is removed holds no more");
}

#[tokio::test]
async fn a_call_says_whether_it_waits_then_the_config_then_the_builder() {
    let stage = Stage::new();
    // No instances are registered, and the channel knows it.
    let impatient = stage.builder().build().unwrap();
    let patient = stage.builder().wait_for_ready(true).build().unwrap();
    let asked = |wait: Option<bool>| {
        let mut request = within(Duration::from_millis(100), request());
        if let Some(wait) = wait {
            request.extensions_mut().insert(WaitForReady(wait));
        }
        request
    };
    for (config, waits) in [(None, None), (Some("true"), Some(true)), (Some("false"), Some(false))] {
        let config = config.map(|wait| for_unary(&format!(r#""waitForReady": {wait}"#)));
        stage.put_service_config(config.as_deref()).await;
        for (channel, by_default) in [(&impatient, false), (&patient, true)] {
            until_config(channel, config.as_deref()).await;
            for own in [None, Some(true), Some(false)] {
                let code = unary(channel, asked(own)).await.unwrap_err().code();
                let expected = own.or(waits).unwrap_or(by_default);
                assert_eq!(code == Code::DeadlineExceeded, expected, "{config:?}, builder {by_default}, call {own:?}");
                assert!(expected || code == Code::Unavailable, "{code:?}");
            }
        }
    }

    let wait = for_unary(r#""waitForReady": true"#);
    stage.put_service_config(Some(&wait)).await;
    until_config(&impatient, Some(&wait)).await;
    let call = tokio::spawn({
        let channel = impatient.clone();
        async move { unary(&channel, Request::new(request())).await }
    });
    let (_server, _a) = stage.server("a").await;
    assert_eq!(in_time(call).await.unwrap().expect("it waits for who signs in").get_ref().server, "a");
}

/// What servers were told of the time that is left.
type Told = Arc<Mutex<Vec<Option<Duration>>>>;

/// Signs in a server that notes how long each call has left.
async fn noting(stage: &Stage) -> (Told, Scripted, Registration) {
    let told = Told::default();
    let note = Arc::clone(&told);
    let server = Scripted::start(move |request| {
        let left = request.metadata().get("grpc-timeout").map(|left| {
            let text = left.to_str().unwrap();
            let count: u64 = text[..text.len() - 1].parse().unwrap();
            match &text[text.len() - 1..] {
                "n" => Duration::from_nanos(count),
                "u" => Duration::from_micros(count),
                "m" => Duration::from_millis(count),
                "S" => Duration::from_secs(count),
                unit => panic!("{unit}"),
            }
        });
        note.lock().unwrap().push(left);
        Ok(Response::new(EchoResponse::default()))
    })
    .await;
    let registration = stage.sign_in("a", server.address.try_into().unwrap(), 1).await;
    (told, server, registration)
}

#[tokio::test]
async fn a_call_that_begins_before_the_registry_answers_gets_the_config_too() {
    let stage = Stage::new();
    let (told, _server, _a) = noting(&stage).await;
    stage.put_service_config(Some(&for_unary(r#""timeout": "30s""#))).await;
    stage.board.faults(|faults| faults.hold = true);
    let channel = stage.builder().timeout(Duration::from_secs(100)).build().unwrap();
    let begun = Instant::now();
    let call = |request: Request<EchoRequest>| {
        let channel = channel.clone();
        tokio::spawn(async move { unary(&channel, request).await })
    };
    let calls =
        [call(Request::new(request())), call(within(Duration::from_secs(25), request())), call(waiting(request()))];
    let held = Duration::from_millis(300);
    tokio::time::sleep(held).await;
    assert!(calls.iter().all(|call| !call.is_finished()), "they wait for the registry");
    stage.board.faults(|faults| faults.hold = false);
    for call in calls {
        in_time(call).await.unwrap().expect("answered");
    }
    // The calls' time runs from their own start: what the registry took is gone.
    let mut told = told.lock().unwrap().clone();
    told.sort();
    let [Some(own), Some(one), Some(two)] = told[..] else { panic!("{told:?}") };
    let (most, least) = (Duration::from_secs(30) - held, Duration::from_secs(30).saturating_sub(begun.elapsed()));
    assert!(one >= least && two <= most, "{told:?}: {least:?} to {most:?}");
    assert!(own <= Duration::from_secs(25) - held, "{told:?}");
}

#[tokio::test]
async fn a_call_waits_for_the_registry_within_its_own_deadline_or_the_builders() {
    let stage = Stage::new();
    stage.board.faults(|faults| faults.hold = true);
    let plain = stage.builder().build().unwrap();
    let bounded = stage.builder().timeout(Duration::from_millis(150)).build().unwrap();
    for (channel, request, expected) in [
        (&plain, within(Duration::from_millis(100), request()), "100ms"),
        (&bounded, Request::new(request()), "150ms"),
        (&bounded, waiting(request()), "150ms"),
    ] {
        let status = unary(channel, request).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        let text = format!("deadline of {expected} exceeded while waiting for the registry: service project/test: ");
        assert!(status.message().starts_with(&text), "{status}");
    }
}

#[tokio::test]
async fn a_call_before_the_registry_answers_fails_when_that_is_out_of_reach_unless_it_waits() {
    let stage = Stage::new();
    let (told, _server, _a) = noting(&stage).await;
    stage.put_service_config(Some(&for_unary(r#""timeout": "30s", "waitForReady": true"#))).await;
    let down = || callboard::Error::new(callboard::ErrorKind::Unavailable, "connection refused");
    stage.board.faults(|faults| faults.down = Some(down()));
    let channel = stage.builder().build().unwrap();
    let patient = || {
        let channel = channel.clone();
        tokio::spawn(async move { unary(&channel, waiting(request())).await })
    };
    let early = patient();
    let status = unary(&channel, Request::new(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("connection refused"), "{status}");
    // The channel knows by now that the registry is out of reach; of the config it knows nothing.
    let late = patient();
    tokio::time::sleep(Duration::from_millis(50)).await;
    stage.board.faults(|faults| faults.down = None);
    for call in [early, late] {
        in_time(call).await.unwrap().expect("it has waited");
    }
    let told = told.lock().unwrap();
    assert!(
        told.len() == 2 && told.iter().all(|left| left.is_some_and(|left| left < Duration::from_secs(30))),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_call_that_begins_early_waits_for_ready_if_the_config_says_so() {
    let stage = Stage::new();
    stage.put_service_config(Some(&for_unary(r#""waitForReady": true"#))).await;
    stage.board.faults(|faults| faults.hold = true);
    let channel = stage.builder().build().unwrap();
    let call = tokio::spawn({
        let channel = channel.clone();
        async move { unary(&channel, Request::new(request())).await }
    });
    stage.board.faults(|faults| faults.hold = false);
    until("the channel knows that nobody is there", || {
        channel.state() == callboard::ConnectivityState::TransientFailure
    })
    .await;
    let (_server, _a) = stage.server("a").await;
    in_time(call).await.unwrap().expect("it waits for who signs in");
}

#[tokio::test]
async fn a_channel_that_ignores_the_config_ignores_it_for_methods_too() {
    let stage = Stage::new();
    let (_server, _a) = stage.server("a").await;
    stage.put_service_config(Some(&for_unary(r#""timeout": "0s""#))).await;
    let dialer = Dialer::new().resolver("memory", stage.board.clone());
    let channel = dialer.dial("memory:///project/test?service_config=false").await.unwrap();
    unary(&channel, Request::new(request())).await.expect("no timeout holds");
    let obedient = dialer.dial("memory:///project/test").await.unwrap();
    assert_eq!(given(&obedient, Request::new(request())).await, "0ns");
}
