//! Responses that are not as they should be, and the status that each becomes.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use callboard_raw::{Peer, RawServer};
use common::{Stage, echo, endpoint, in_time, request, until, within};
use tonic::{Code, Status};

const SOON: Duration = Duration::from_millis(300);

/// A server that does the same with each request that has come to its end, and the channel to it.
async fn answering(answer: fn(&Peer, u32)) -> (Stage, RawServer, callboard::Registration, callboard::Channel) {
    let stage = Stage::new();
    let (server, registration) = stage
        .raw("a", move |mut peer: Peer| async move {
            peer.settings(&[]);
            while let Some(request) = peer.request().await {
                answer(&peer, request.stream);
            }
        })
        .await;
    let channel = stage.channel(stage.builder().http2_max_header_list_size(HEADER_LIST), 1).await;
    (stage, server, registration, channel)
}

/// What a call to such a server ends with.
async fn status_of(answer: fn(&Peer, u32)) -> Status {
    let (_stage, server, _registration, channel) = answering(answer).await;
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    until("the call is over", || endpoint(&channel, "a").endpoint.in_flight() == 0).await;
    assert_eq!(
        (server.stats().requests, server.stats().accepted),
        (1, 1),
        "the connection stays, and so it is sent once"
    );
    status
}

/// What a call with a deadline to such a server ends with, which it has to do in time.
async fn status_in_time(answer: fn(&Peer, u32)) -> Status {
    let (_stage, server, _registration, channel) = answering(answer).await;
    let begun = Instant::now();
    let status = in_time(echo(&channel).unary(within(SOON, request()))).await.unwrap_err();
    assert!(begun.elapsed() >= SOON && begun.elapsed() < SOON * 10, "{:?}", begun.elapsed());
    in_time(server.until(|stats| stats.resets == 1 && stats.open == 0)).await;
    assert_eq!(endpoint(&channel, "a").endpoint.in_flight(), 0);
    status
}

#[tokio::test]
async fn an_answer_that_never_comes_ends_at_the_deadline_and_the_server_is_told() {
    let status = status_in_time(|_, _| {}).await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("project/test"), "{status:?}");
}

#[tokio::test]
async fn a_body_that_never_comes_ends_at_the_deadline() {
    let status = status_in_time(|peer, stream| peer.head(stream)).await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("service project/test, endpoint 127.0.0.1:"), "{status:?}");
    assert!(status.message().ends_with("; registry in reach"), "{status:?}");
}

#[tokio::test]
async fn a_body_that_stops_half_way_ends_at_the_deadline() {
    let status = status_in_time(|peer, stream| {
        peer.head(stream);
        peer.data(stream, &[0, 0, 0, 0, 100, 1, 2, 3], false);
    })
    .await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn trailers_that_never_come_end_at_the_deadline() {
    let status = status_in_time(|peer, stream| {
        peer.head(stream);
        peer.message(stream, "a");
    })
    .await;
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn an_answer_of_trailers_alone_has_their_status() {
    let status = status_of(|peer, stream| {
        let fields = [(":status", "200"), ("grpc-status", "5"), ("grpc-message", "no%20such%20thing")];
        peer.headers(stream, &fields, true);
    })
    .await;
    assert_eq!((status.code(), status.message()), (Code::NotFound, "no such thing"));
}

#[tokio::test]
async fn an_answer_without_a_status_is_no_success() {
    let unknown: [fn(&Peer, u32); 5] = [
        // Trailers, but no status in them.
        |peer, stream| {
            peer.head(stream);
            peer.message(stream, "a");
            peer.headers(stream, &[("other", "1")], true);
        },
        // The end with the last data.
        |peer, stream| {
            peer.head(stream);
            peer.message(stream, "a");
            peer.data(stream, &[], true);
        },
        // The end with the head.
        |peer, stream| peer.headers(stream, &[(":status", "200"), ("content-type", "application/grpc")], true),
        |peer, stream| peer.headers(stream, &[(":status", "200")], true),
        // No message either.
        |peer, stream| {
            peer.head(stream);
            peer.data(stream, &[], true);
        },
    ];
    for (index, answer) in unknown.into_iter().enumerate() {
        let status = status_of(answer).await;
        assert_eq!(status.code(), Code::Unknown, "{index}: {status:?}");
    }
}

#[tokio::test]
async fn a_message_that_the_stream_ends_in_is_an_error_of_the_protocol() {
    let status = status_of(|peer, stream| {
        peer.head(stream);
        peer.data(stream, &[0, 0, 0, 0, 100, 1, 2, 3], false);
        peer.trailers(stream, "0");
    })
    .await;
    assert_eq!(status.code(), Code::Internal);
}

#[tokio::test]
async fn odd_statuses_are_unknown() {
    for odd in ["99", "17", "-1", "abc", "", "0 ", "4294967296"] {
        let stage = Stage::new();
        let (_server, _registration) = stage
            .raw("a", move |mut peer: Peer| async move {
                peer.settings(&[]);
                while let Some(request) = peer.request().await {
                    peer.head(request.stream);
                    peer.message(request.stream, "a");
                    peer.trailers(request.stream, odd);
                    let alone = peer.request().await.unwrap().stream;
                    peer.headers(alone, &[(":status", "200"), ("grpc-status", odd)], true);
                }
            })
            .await;
        let channel = stage.channel(stage.builder(), 1).await;
        for _ in 0..2 {
            let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
            assert_eq!(status.code(), Code::Unknown, "{odd:?}: {status:?}");
        }
    }
}

/// The table of gRPC's http-grpc-status-mapping.md.
const HTTP: [(&str, Code); 11] = [
    ("400", Code::Internal),
    ("401", Code::Unauthenticated),
    ("403", Code::PermissionDenied),
    ("404", Code::Unimplemented),
    ("429", Code::Unavailable),
    ("500", Code::Unknown),
    ("501", Code::Unknown),
    ("502", Code::Unavailable),
    ("503", Code::Unavailable),
    ("504", Code::Unavailable),
    ("302", Code::Unknown),
];

#[tokio::test]
async fn what_a_proxy_says_in_http_becomes_the_status_that_grpc_gives_it() {
    for (http, expected) in HTTP {
        let stage = Stage::new();
        let (server, _registration) = stage
            .raw("a", move |mut peer: Peer| async move {
                peer.settings(&[]);
                while let Some(request) = peer.request().await {
                    if request.stream % 4 == 1 {
                        peer.headers(request.stream, &[(":status", http), ("content-type", "text/plain")], false);
                        peer.data(request.stream, b"no healthy upstream", true);
                    } else {
                        peer.headers(request.stream, &[(":status", http)], true);
                    }
                }
            })
            .await;
        let channel = stage.channel(stage.builder(), 1).await;
        // With a body and without one.
        for _ in 0..2 {
            let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
            assert_eq!(status.code(), expected, "{http}: {status:?}");
            for part in ["project/test", &server.address().to_string(), http] {
                assert!(status.message().contains(part), "{part} in {status:?}");
            }
        }
        until("the calls are over", || endpoint(&channel, "a").endpoint.in_flight() == 0).await;
        assert_eq!(server.stats().accepted, 1);
    }
}

#[tokio::test]
async fn what_is_not_grpc_at_all_is_unknown() {
    let status = status_of(|peer, stream| {
        peer.headers(stream, &[(":status", "200"), ("content-type", "text/html")], false);
        peer.data(stream, b"<html>Welcome</html>", true);
    })
    .await;
    assert_eq!(status.code(), Code::Unknown, "{status:?}");
    assert!(status.message().contains("text/html"), "{status:?}");
    assert!(status.message().ends_with("; registry in reach"), "{status:?}");
}

#[tokio::test]
async fn a_status_of_grpc_counts_more_than_one_of_http() {
    let status = status_of(|peer, stream| {
        peer.headers(stream, &[(":status", "503"), ("grpc-status", "8"), ("grpc-message", "enough")], true);
    })
    .await;
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "enough"));
}

#[tokio::test]
async fn what_comes_before_the_head_is_passed_over() {
    let (_stage, _server, _registration, channel) = answering(|peer, stream| {
        peer.headers(stream, &[(":status", "103"), ("link", "x")], false);
        peer.answer(stream, "a");
    })
    .await;
    in_time(echo(&channel).unary(request())).await.unwrap();
}

/// The largest list of headers that the channels here take.
const HEADER_LIST: u32 = 64 << 10;

/// More than a channel takes in one block of headers.
fn huge() -> String {
    "x".repeat(100 << 10)
}

#[tokio::test]
async fn headers_that_are_too_large_end_their_own_call_alone() {
    let (_stage, server, _registration, channel) = answering(|peer, stream| match stream {
        1 => {}
        3 => peer.headers(stream, &[(":status", "200"), ("big", &huge())], false),
        5 => {
            peer.head(stream);
            peer.message(stream, "a");
            peer.headers(stream, &[("big", &huge()), ("grpc-status", "0")], true);
        }
        _ => {
            peer.answer(stream, "a");
            peer.answer(1, "a");
        }
    })
    .await;
    let mut client = echo(&channel);
    let bystander = tokio::spawn(async move { client.unary(request()).await });
    in_time(server.until(|stats| stats.requests == 1)).await;
    for part in ["head", "trailers"] {
        let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal, "{part}: {status:?}");
    }
    in_time(echo(&channel).unary(request())).await.unwrap();
    in_time(bystander).await.unwrap().unwrap();
    assert_eq!(server.stats().accepted, 1);
}

#[tokio::test]
async fn a_bad_answer_ends_a_call_whose_request_has_not_ended() {
    // One that this side resets, one that the server resets, and one that is cut off.
    for kind in 0..3 {
        let stage = Stage::new();
        let (_server, _registration) = stage
            .raw("a", move |mut peer: Peer| async move {
                peer.settings(&[]);
                let stream = peer.opened().await.unwrap();
                match kind {
                    0 => peer.headers(stream, &[(":status", "200"), ("big", &huge())], false),
                    1 => peer.reset(stream, callboard_raw::code::INTERNAL_ERROR),
                    _ => return peer.cut(),
                }
                peer.ignore().await;
            })
            .await;
        let channel = stage.channel(stage.builder().http2_max_header_list_size(HEADER_LIST), 1).await;
        let endless = futures_util::stream::pending();
        let status = in_time(echo(&channel).client_streaming(endless)).await.unwrap_err();
        let expected = if kind == 2 { Code::Unavailable } else { Code::Internal };
        assert_eq!(status.code(), expected, "{kind}: {status:?}");
        until("the call is over", || endpoint(&channel, "a").endpoint.in_flight() == 0).await;
    }
}
