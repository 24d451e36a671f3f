//! The deadline covers a call from its beginning to the last byte of its response.

mod common;

use std::time::{Duration, Instant};

use callboard::Timeout;
use callboard_echo::pb::{EchoRequest, EchoResponse};
use common::scripted::Scripted;
use common::{Stage, echo, endpoint, in_time, request, slow, until, waiting, within};
use tonic::{Code, Response};

const SOON: Duration = Duration::from_millis(200);
/// What a busy machine may add, and still far from the answer.
const SLACK: Duration = Duration::from_secs(3);
/// An answer that comes much too late.
const LATE: u32 = 15_000;

fn assert_ended_soon(begun: Instant, status: &tonic::Status) {
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let elapsed = begun.elapsed();
    assert!(elapsed >= SOON - Duration::from_millis(5) && elapsed < SOON + SLACK, "{elapsed:?}");
}

#[tokio::test]
async fn a_deadline_ends_a_call_to_a_slow_server_there_and_here() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    let begun = Instant::now();
    let status = echo(&channel).unary(within(SOON, slow(LATE))).await.unwrap_err();
    assert_ended_soon(begun, &status);
    for part in ["200ms", "response", "project/test"] {
        assert!(status.message().contains(part), "{part:?} is not in {:?}", status.message());
    }
    until("the server has stopped too", || server.in_flight() == 0).await;
    assert!(begun.elapsed() < SOON + SLACK);
    assert_eq!(endpoint(&channel, "a").endpoint.in_flight(), 0);
}

#[tokio::test]
async fn the_default_deadline_counts_where_a_call_sets_none_or_a_later_one() {
    let stage = Stage::new();
    let (_server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder().timeout(SOON), 1).await;
    for request in [tonic::Request::new(slow(LATE)), within(Duration::from_secs(60), slow(LATE))] {
        let begun = Instant::now();
        let status = echo(&channel).unary(request).await.unwrap_err();
        assert_ended_soon(begun, &status);
    }
}

#[tokio::test]
async fn a_call_may_ask_for_less_than_the_default_deadline() {
    let stage = Stage::new();
    let (_server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder().timeout(Duration::from_secs(60)), 1).await;
    let begun = Instant::now();
    let status = echo(&channel).unary(within(SOON, slow(LATE))).await.unwrap_err();
    assert_ended_soon(begun, &status);
}

#[tokio::test]
async fn a_call_that_is_answered_in_time_has_its_answer() {
    let stage = Stage::new();
    let (_server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    let answer = echo(&channel).unary(within(Duration::from_secs(10), slow(50))).await.unwrap();
    assert_eq!(answer.into_inner().payload, b"ping");
}

#[tokio::test]
async fn a_deadline_ends_a_response_that_stalls() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    let begun = Instant::now();
    // The head of the response comes at once, the first message much too late.
    let message = EchoRequest { repeat: 3, ..slow(LATE) };
    let mut answers = echo(&channel).server_streaming(within(SOON, message)).await.unwrap().into_inner();
    let status = answers.message().await.unwrap_err();
    assert_ended_soon(begun, &status);
    let address = server.address().to_string();
    for part in ["200ms", "project/test", &address] {
        assert!(status.message().contains(part), "{part:?} is not in {:?}", status.message());
    }
    until("the server has stopped too", || server.in_flight() == 0).await;
    assert!(begun.elapsed() < SOON + SLACK);
    assert_eq!(endpoint(&channel, "a").endpoint.in_flight(), 0);
}

#[tokio::test]
async fn a_deadline_ends_a_response_that_never_stalls() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    let begun = Instant::now();
    // There is always something to read, because the reader is slower than the server.
    let message = EchoRequest { payload: vec![7; 64 << 10], repeat: 2_000, ..EchoRequest::default() };
    let mut answers = echo(&channel).server_streaming(within(SOON, message)).await.unwrap().into_inner();
    let status = loop {
        match answers.message().await {
            Ok(Some(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
            Ok(None) => panic!("the response has come to its end {:?} after its beginning", begun.elapsed()),
            Err(status) => break status,
        }
    };
    assert_ended_soon(begun, &status);
    until("the server has stopped too", || server.in_flight() == 0).await;
}

#[tokio::test]
async fn the_server_is_told_the_time_that_is_left_and_not_the_time_that_was_given() {
    let stage = Stage::new();
    let script = |request: tonic::Request<EchoRequest>| {
        let timeout = request.metadata().get("grpc-timeout").expect("told");
        Ok(Response::new(EchoResponse { payload: timeout.as_bytes().to_vec(), ..EchoResponse::default() }))
    };
    let server = Scripted::start(script).await;
    let channel = stage.builder().build().unwrap();
    let mut client = echo(&channel);
    let call = tokio::spawn(async move {
        let mut request = waiting(request());
        request.set_timeout(Duration::from_secs(20));
        client.unary(request).await
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    let _registration = stage.sign_in("a", server.address.try_into().unwrap(), 1).await;
    let told = String::from_utf8(in_time(call).await.unwrap().unwrap().into_inner().payload).unwrap();
    let micros: u64 = told.strip_suffix('u').expect("microseconds").parse().unwrap();
    // The call may have begun a moment after the wait.
    assert!(micros <= 19_800_000 && micros > 1_000_000, "{told}");
}

/// A stream of four answers that takes twice the channel's own timeout.
async fn long_stream(
    channel: &callboard::Channel,
    configure: impl FnOnce(&mut tonic::Request<EchoRequest>),
) -> Result<usize, tonic::Status> {
    let delay_ms = (SOON / 2).as_millis() as u32;
    let mut request = tonic::Request::new(EchoRequest { repeat: 4, delay_ms, ..request() });
    configure(&mut request);
    let mut answers = in_time(echo(channel).server_streaming(request)).await?.into_inner();
    let mut heard = 0;
    while in_time(answers.message()).await?.is_some() {
        heard += 1;
    }
    Ok(heard)
}

#[tokio::test]
async fn a_call_may_raise_the_channels_default_by_its_own_timeout_alone() {
    let stage = Stage::new();
    let (_server, _registration) = stage.server("a").await;
    // As a URL's `timeout` is.
    let channel = stage.channel(stage.builder().timeout(SOON), 1).await;
    let minute = Duration::from_secs(60);
    let status = long_stream(&channel, |request| request.set_timeout(minute)).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "the earlier of two counts: {status}");
    for own in [minute, Duration::MAX] {
        let own = Timeout(own);
        assert_eq!(
            long_stream(&channel, |request| {
                request.extensions_mut().insert(own);
            })
            .await
            .ok(),
            Some(4)
        );
    }

    // It may as well be shorter, and does not lengthen what the call asks for itself.
    for (own, asked) in [(SOON, minute), (minute, SOON)] {
        let begun = Instant::now();
        let mut request = within(asked, slow(LATE));
        request.extensions_mut().insert(Timeout(own));
        assert_ended_soon(begun, &echo(&channel).unary(request).await.unwrap_err());
    }
}

#[tokio::test]
async fn no_call_raises_what_the_services_config_says() {
    let stage = Stage::new();
    let (_server, _registration) = stage.server("a").await;
    let config = r#"{"methodConfig": [{"name": [{}], "timeout": "0.2s"}]}"#;
    stage.put_service_config(Some(config)).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let begun = Instant::now();
    let mut request = tonic::Request::new(slow(LATE));
    request.extensions_mut().insert(Timeout(Duration::from_secs(60)));
    assert_ended_soon(begun, &echo(&channel).unary(request).await.unwrap_err());
}
