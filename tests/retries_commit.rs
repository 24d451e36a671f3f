//! What a call under a retry policy is committed to, and what is retried although the server may have processed it.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use callboard::{Channel, Idempotent, Registration};
use callboard_echo::pb::EchoRequest;
use callboard_raw::{Event, Peer, RawServer, code};
use common::refusing::{Policy, QUICK, Refusing, SLOW, unavailable};
use common::{Stage, echo, endpoint, in_time, quick, request, tasks, until, waiting};
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request};

/// A server whose first requests, so many, meet with `fault`, and whose others are answered; with a channel to it.
async fn faulty<F>(stage: &Stage, policy: &Policy, faults: usize, fault: F) -> (RawServer, Registration, Channel)
where
    F: Fn(&Peer, u32) + Clone + Send + Sync + 'static,
{
    let seen = Arc::new(AtomicUsize::new(0));
    let script = move |mut peer: Peer| {
        let (seen, fault) = (Arc::clone(&seen), fault.clone());
        async move {
            peer.settings(&[]);
            while let Some(request) = peer.request().await {
                if seen.fetch_add(1, Ordering::SeqCst) >= faults {
                    peer.answer(request.stream, "a");
                } else {
                    fault(&peer, request.stream);
                }
            }
        }
    };
    let (server, registration) = stage.raw("a", script).await;
    let channel = stage.channel(stage.under(policy).await.backoff(quick()), 1).await;
    (server, registration, channel)
}

/// Cuts its first connections, so many, when a request has come to its end, and answers on the others.
async fn cutting(stage: &Stage, policy: &Policy, cuts: usize) -> (RawServer, Registration, Channel) {
    let script = move |mut peer: Peer| async move {
        peer.settings(&[]);
        while let Some(request) = peer.request().await {
            if peer.number() <= cuts {
                return peer.cut();
            }
            peer.answer(request.stream, "a");
        }
    };
    let (server, registration) = stage.raw("a", script).await;
    let channel = stage.channel(stage.under(policy).await.backoff(quick()), 1).await;
    (server, registration, channel)
}

/// As the connection has to be made anew, it waits for that.
fn idempotent() -> Request<EchoRequest> {
    let mut request = waiting(request());
    request.extensions_mut().insert(Idempotent);
    request
}

#[tokio::test]
async fn nothing_is_retried_once_the_response_has_begun() {
    let stage = Stage::new();
    let begins = |peer: &Peer, stream| {
        peer.head(stream);
        peer.trailers(stream, "14");
    };
    let (server, _registration, channel) = faulty(&stage, &QUICK, usize::MAX, begins).await;
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!((status.code(), server.stats().requests), (Code::Unavailable, 1), "{status:?}");
}

#[tokio::test]
async fn nothing_is_retried_after_the_first_message() {
    let stage = Stage::new();
    let speaks = |peer: &Peer, stream| {
        peer.head(stream);
        peer.message(stream, "first");
        peer.trailers(stream, "14");
    };
    let (server, _registration, channel) = faulty(&stage, &QUICK, usize::MAX, speaks).await;
    let mut answers = in_time(echo(&channel).server_streaming(request())).await.unwrap().into_inner();
    assert_eq!(in_time(answers.message()).await.unwrap().unwrap().server, "first");
    let status = in_time(answers.message()).await.unwrap_err();
    assert_eq!((status.code(), server.stats().requests), (Code::Unavailable, 1), "{status:?}");
}

#[tokio::test]
async fn a_streamed_response_is_retried_before_it_begins() {
    let stage = Stage::new();
    let (server, _registration, channel) = faulty(&stage, &QUICK, 2, |peer, stream| peer.refuse(stream, "14")).await;
    let answers = in_time(echo(&channel).server_streaming(request())).await.unwrap().into_inner();
    let answers: Vec<_> = in_time(answers.map(|answer| answer.unwrap().server).collect()).await;
    assert_eq!((answers, server.stats().requests), (vec!["a".to_owned()], 3));
}

#[tokio::test]
async fn a_stream_that_is_reset_is_retried_by_the_code_that_grpc_gives_it() {
    for (reset, attempts) in [(code::ENHANCE_YOUR_CALM, 3), (code::INTERNAL_ERROR, 1)] {
        let stage = Stage::new();
        let policy = Policy { codes: &["RESOURCE_EXHAUSTED"], ..QUICK };
        let (server, _registration, channel) =
            faulty(&stage, &policy, 2, move |peer, stream| peer.reset(stream, reset)).await;
        let answer = in_time(echo(&channel).unary(request())).await;
        assert_eq!((answer.is_ok(), server.stats().requests), (attempts == 3, attempts), "{answer:?}");
    }
}

#[tokio::test]
async fn a_lost_connection_is_unavailable_and_retried_if_that_is_listed() {
    let stage = Stage::new();
    let (server, _registration, channel) = cutting(&stage, &QUICK, 3).await;
    in_time(echo(&channel).unary(waiting(request()))).await.unwrap();
    assert_eq!(server.stats().requests, 4);
    assert_eq!(endpoint(&channel, "a").endpoint.calls(), 4);
}

#[tokio::test]
async fn a_failure_of_ours_says_how_many_attempts_were_made() {
    let stage = Stage::new();
    let (server, _registration, channel) = cutting(&stage, &Policy { attempts: 3, ..QUICK }, usize::MAX).await;
    let status = in_time(echo(&channel).unary(waiting(request()))).await.unwrap_err();
    assert_eq!((status.code(), server.stats().requests), (Code::Unavailable, 3), "{status:?}");
    let address = server.address();
    assert!(
        status.message().starts_with(&format!("service project/test, endpoint {address}, attempt 3: ")),
        "{status:?}"
    );
}

#[tokio::test]
async fn a_lost_connection_that_no_policy_lists_is_repeated_for_idempotent_calls_alone() {
    let stage = Stage::new();
    let policy = Policy { attempts: 2, codes: &["ABORTED"], ..QUICK };
    let (server, _registration, channel) = cutting(&stage, &policy, 5).await;
    in_time(echo(&channel).unary(waiting(request()))).await.unwrap_err();
    assert_eq!(server.stats().requests, 1);
    in_time(echo(&channel).unary(idempotent())).await.unwrap();
    assert_eq!(server.stats().requests, 1 + 5, "four times lost, as without a policy");
}

#[tokio::test]
async fn a_policy_that_lists_lost_connections_alone_decides_about_them() {
    let stage = Stage::new();
    let (server, _registration, channel) = cutting(&stage, &Policy { attempts: 2, ..QUICK }, usize::MAX).await;
    in_time(echo(&channel).unary(idempotent())).await.unwrap_err();
    assert_eq!(server.stats().requests, 2);
}

#[tokio::test]
async fn repetitions_and_retries_are_five_attempts_together_at_most() {
    let stage = Stage::new();
    let (told, mut heard) = mpsc::unbounded_channel();
    // Lost, then refused with a listed code, by turns.
    let seen = Arc::new(AtomicUsize::new(0));
    let script = move |mut peer: Peer| {
        let (told, seen) = (told.clone(), Arc::clone(&seen));
        async move {
            peer.settings(&[]);
            while let Some(request) = peer.request().await {
                told.send(()).unwrap();
                match seen.fetch_add(1, Ordering::SeqCst) % 2 {
                    0 => return peer.cut(),
                    _ => peer.refuse(request.stream, "10"),
                }
            }
        }
    };
    let _server = stage.raw("a", script).await;
    let policy = Policy { codes: &["ABORTED"], ..QUICK };
    let channel = stage.channel(stage.under(&policy).await.backoff(quick()), 1).await;
    let status = in_time(echo(&channel).unary(idempotent())).await.unwrap_err();
    assert_eq!(std::iter::from_fn(|| heard.try_recv().ok()).count(), 5, "{status:?}");
}

#[tokio::test]
async fn what_no_server_has_processed_is_sent_again_without_being_counted() {
    let stage = Stage::new();
    let refuses = |mut peer: Peer| async move {
        peer.settings(&[]);
        while let Some(request) = peer.request().await {
            peer.reset(request.stream, code::REFUSED_STREAM);
        }
    };
    let (refusing, _a) = stage.raw("a", refuses).await;
    let other = Refusing::start(&stage, "b", [unavailable()]).await;
    let slow = Policy { attempts: 2, initial: Duration::from_millis(1), ..QUICK };
    let channel = stage.channel(stage.under(&slow).await, 2).await;
    // Round robin: one of the two begins at the refusing one.
    for _ in 0..2 {
        drop(in_time(echo(&channel).unary(request())).await);
    }
    assert!(refusing.stats().requests >= 1);
    let previous = other.previous();
    assert_eq!(previous[0], "", "{previous:?}");
    assert!(previous.iter().all(|previous| ["", "1"].contains(&previous.as_str())), "{previous:?}");
}

#[tokio::test]
async fn a_second_refusal_is_a_failure_that_the_policy_may_list() {
    for (codes, expected) in [(&["UNAVAILABLE"][..], 4), (&["ABORTED"], 2)] {
        let stage = Stage::new();
        let policy = Policy { codes, ..QUICK };
        let refused = |peer: &Peer, stream| peer.reset(stream, code::REFUSED_STREAM);
        let (server, _registration, channel) = faulty(&stage, &policy, 3, refused).await;
        let answer = in_time(echo(&channel).unary(request())).await;
        assert_eq!((answer.is_ok(), server.stats().requests), (expected == 4, expected), "{answer:?}");
    }
}

fn part(payload: &str) -> EchoRequest {
    EchoRequest { payload: payload.into(), ..EchoRequest::default() }
}

/// The lengths and payloads in the body of a request, one after the other.
fn payloads(body: &[u8]) -> String {
    let text = body.iter().filter(|byte| byte.is_ascii_alphanumeric());
    text.map(|byte| char::from(*byte)).collect()
}

#[tokio::test]
async fn a_streamed_request_is_replayed_from_its_beginning_and_goes_on() {
    let stage = Stage::new();
    let (bodies, mut seen) = mpsc::unbounded_channel();
    let (refused, mut refusals) = mpsc::unbounded_channel();
    // Refuses twice as soon as the first message is there, and then takes all of it.
    let script = move |mut peer: Peer| {
        let (bodies, refused) = (bodies.clone(), refused.clone());
        async move {
            peer.settings(&[]);
            for _ in 0..2 {
                let stream = loop {
                    match peer.next().await {
                        Some(Event::Data { stream, data, .. }) if !data.is_empty() => break stream,
                        Some(_) => {}
                        None => return,
                    }
                };
                peer.refuse(stream, "14");
                refused.send(()).unwrap();
            }
            while let Some(request) = peer.request().await {
                bodies.send(request.body).unwrap();
                peer.answer(request.stream, "a");
            }
        }
    };
    let (server, _registration) = stage.raw("a", script).await;
    let channel = stage.channel(stage.under(&QUICK).await, 1).await;
    let (parts, body) = mpsc::channel(1);
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.client_streaming(ReceiverStream::new(body)).await });
    parts.send(part("first")).await.unwrap();
    for _ in 0..2 {
        in_time(refusals.recv()).await.unwrap();
    }
    parts.send(part("second")).await.unwrap();
    parts.send(part("third")).await.unwrap();
    drop(parts);
    assert_eq!(in_time(call).await.unwrap().unwrap().into_inner().server, "a");
    let body = in_time(seen.recv()).await.unwrap();
    assert_eq!(payloads(&body), "firstsecondthird", "{body:?}");
    assert_eq!(server.stats().requests, 3);
    until("both refused streams are reset", || server.stats().open == 0).await;
}

/// Refuses each request as soon as it begins.
async fn refuse_early(mut peer: Peer) {
    peer.settings(&[]);
    while let Some(stream) = peer.opened().await {
        peer.refuse(stream, "14");
    }
}

#[tokio::test]
async fn a_streamed_request_that_is_dropped_between_two_attempts_leaves_nothing() {
    let stage = Stage::new();
    let (server, _registration) = stage.raw("a", refuse_early).await;
    let channel = stage.channel(stage.under(&SLOW).await, 1).await;
    let before = tasks();
    let (parts, body) = mpsc::channel(1);
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.client_streaming(ReceiverStream::new(body)).await });
    parts.send(part("first")).await.unwrap();
    until("it waits", || server.stats().requests == 1 && endpoint(&channel, "a").endpoint.in_flight() == 0).await;
    until("its first stream is over", || server.stats().open == 0).await;
    assert!(!call.is_finished() && !parts.is_closed(), "its stream is kept for the next attempt");
    call.abort();
    in_time(parts.closed()).await;
    until("the tasks are gone", || tasks() <= before).await;
}

#[tokio::test]
async fn a_streamed_request_that_says_nothing_does_not_hold_up_the_attempts() {
    let stage = Stage::new();
    let (server, _registration) = stage.raw("a", refuse_early).await;
    let channel = stage.channel(stage.under(&QUICK).await, 1).await;
    // It has no message: the bodies of all attempts wait for one.
    let status = in_time(echo(&channel).client_streaming(stream::pending())).await.unwrap_err();
    assert_eq!((status.code(), server.stats().requests), (Code::Unavailable, 5), "{status:?}");
    until("all its streams are over", || server.stats().open == 0).await;
}

#[tokio::test]
async fn a_request_beyond_the_retry_buffer_commits_the_call() {
    let of = |size: usize| EchoRequest { payload: vec![b'x'; size], ..EchoRequest::default() };
    for (size, attempts) in [(900, 3), (1_100, 1)] {
        let stage = Stage::new();
        let policy = Policy { attempts: 3, ..QUICK };
        let refuse = |peer: &Peer, stream| peer.refuse(stream, "14");
        let (server, _registration, _) = faulty(&stage, &policy, usize::MAX, refuse).await;
        let channel = stage.channel(stage.builder().retry_buffer(1_000), 1).await;
        in_time(echo(&channel).unary(of(size))).await.unwrap_err();
        assert_eq!(server.stats().requests, attempts, "one message of {size}");
        let parts = stream::iter((0..size / 100).map(move |_| of(95)));
        in_time(echo(&channel).client_streaming(parts)).await.unwrap_err();
        assert_eq!(server.stats().requests, 2 * attempts, "messages of 100, together {size}");
    }
}

#[tokio::test]
async fn by_default_a_quarter_of_a_mebibyte_is_kept() {
    let stage = Stage::new();
    let policy = Policy { attempts: 2, ..QUICK };
    let refuse = |peer: &Peer, stream| peer.refuse(stream, "14");
    let (server, _registration, channel) = faulty(&stage, &policy, usize::MAX, refuse).await;
    for (size, requests) in [((256 << 10) - 64, 2), (256 << 10, 3)] {
        let large = EchoRequest { payload: vec![0; size], ..EchoRequest::default() };
        in_time(echo(&channel).unary(large)).await.unwrap_err();
        assert_eq!(server.stats().requests, requests, "{size}");
    }
}
