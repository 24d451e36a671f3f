//! What one response does wrong, or too much of, ends its own call and no other on the connection.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use callboard::{Channel, ChannelBuilder};
use callboard_raw::{Event, Peer, RawServer, Writer, frame};
use common::{PATIENCE, Stage, echo, in_time, request, until, within};
use tokio::task::JoinHandle;
use tonic::{Code, Status};

const KIB: usize = 1 << 10;

/// The least window that a stream can have.
const WINDOW: usize = 64 * KIB;

/// How a server answers one call; it answers others well.
type Misdeed = Box<dyn Fn(&Writer, u32) + Send + Sync>;

/// Keeps the first request waiting, answers the second by the misdeed, and then, at the third, both well.
async fn misbehave(mut peer: Peer, misdeed: std::sync::Arc<Misdeed>) {
    peer.settings(&[]);
    let mut requests = Vec::new();
    while let Some(request) = peer.request().await {
        requests.push(request.stream);
        match requests[..] {
            [_] => {}
            [_, second] => misdeed(&peer, second),
            [first, .., last] => {
                if requests.len() == 3 {
                    peer.answer(first, "a");
                }
                peer.answer(last, "a");
            }
            [] => unreachable!("one has just been pushed"),
        }
    }
}

type Call = JoinHandle<Result<String, Status>>;

fn call(channel: &Channel) -> Call {
    let mut client = echo(channel);
    tokio::spawn(async move {
        client.unary(within(PATIENCE / 8, request())).await.map(|response| response.into_inner().server)
    })
}

/// How the call ended that was answered by the misdeed, and whether those before and after it went well on the same
/// connection.
async fn outcome(
    configure: impl Fn(ChannelBuilder) -> ChannelBuilder,
    misdeed: impl Fn(&Writer, u32) + Send + Sync + 'static,
) -> (Result<String, Status>, bool) {
    let stage = Stage::new();
    let misdeed: std::sync::Arc<Misdeed> = std::sync::Arc::new(Box::new(misdeed));
    let (server, _registration) = stage.raw("a", move |peer| misbehave(peer, misdeed.clone())).await;
    let channel = stage.channel(configure(stage.builder()), 1).await;
    let before = call(&channel);
    arrived(&server, 1).await;
    let ended = in_time(call(&channel)).await.unwrap();
    let after = in_time(call(&channel)).await.unwrap().is_ok();
    let unharmed = in_time(before).await.unwrap().is_ok() && after && server.stats().accepted == 1;
    (ended, unharmed)
}

async fn arrived(server: &RawServer, requests: usize) {
    until("it has arrived", || server.stats().requests == requests).await;
}

fn trailers_of(size: usize) -> impl Fn(&Writer, u32) {
    move |writer, stream| {
        writer.head(stream);
        let details = "A".repeat(size / 4 * 4);
        writer.headers(stream, &[("grpc-status", "9"), ("grpc-status-details-bin", &details)], true);
    }
}

fn head_of(size: usize) -> impl Fn(&Writer, u32) {
    move |writer, stream| {
        let fields = [(":status", "200"), ("content-type", "application/grpc"), ("x", &*"y".repeat(size))];
        writer.headers(stream, &fields, false);
        writer.message(stream, "a");
        writer.trailers(stream, "0");
    }
}

#[tokio::test]
async fn trailers_of_any_size_within_the_limit_arrive_whole() {
    for size in [60, 64, 80, 100, 200, 1_000, 15_000] {
        let (ended, unharmed) = outcome(|builder| builder, trailers_of(size * KIB)).await;
        let status = ended.unwrap_err();
        assert_eq!(
            (status.code(), status.details().len()),
            (Code::FailedPrecondition, size * KIB / 4 * 3),
            "{size} KiB"
        );
        assert!(unharmed, "with {size} KiB");
    }
}

#[tokio::test]
async fn a_large_head_within_the_limit_is_taken() {
    for size in [64, 200, 1_000, 15_000] {
        let (ended, unharmed) = outcome(|builder| builder, head_of(size * KIB)).await;
        assert_eq!((ended.ok().as_deref(), unharmed), (Some("a"), true), "{size} KiB");
    }
}

/// What a status says that was made because of trailers or a head that are too large.
fn assert_told(ended: Result<String, Status>, what: &str, limit: usize) {
    let status = ended.unwrap_err();
    let message = status.message();
    assert_eq!(status.code(), Code::Internal, "{message}");
    assert!(message.starts_with("service project/test, endpoint 127.0.0.1:"), "{message}");
    assert!(message.contains(&format!("the response's {what} are too large: they have ")), "{message}");
    assert!(message.contains(&format!("at most {limit} (http2_max_header_list_size)")), "{message}");
}

#[tokio::test]
async fn what_is_over_the_limit_fails_its_call_alone_and_says_so() {
    let limited = |builder: ChannelBuilder| builder.http2_max_header_list_size(8 << 10);
    for size in [8, 9, 16, 23, 24, 25, 33, 64, 200, 1_000, 5_000, 15_000] {
        let (ended, unharmed) = outcome(limited, trailers_of(size * KIB)).await;
        assert_told(ended, "trailers", 8 * KIB);
        assert!(unharmed, "with trailers of {size} KiB");
        let (ended, unharmed) = outcome(limited, head_of(size * KIB)).await;
        assert_told(ended, "headers", 8 * KIB);
        assert!(unharmed, "with a head of {size} KiB");
    }
    for size in [17_000, 40_000] {
        let (ended, unharmed) = outcome(|builder| builder, trailers_of(size * KIB)).await;
        assert_told(ended, "trailers", 16 << 20);
        assert!(unharmed, "with trailers of {size} KiB");
    }
}

#[tokio::test]
async fn what_fits_to_the_byte_is_taken_and_one_byte_more_is_not() {
    // `:status`, `content-type` and `x`, with 32 bytes each.
    let others = 42 + 12 + 16 + 32 + 1 + 32;
    let limited = |builder: ChannelBuilder| builder.http2_max_header_list_size(8 << 10);
    assert!(outcome(limited, head_of(8 * KIB - others)).await.0.is_ok());
    assert_told(outcome(limited, head_of(8 * KIB - others + 1)).await.0, "headers", 8 * KIB);
}

#[tokio::test]
async fn the_server_is_told_the_limit() {
    let stage = Stage::new();
    let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
    let script = move |mut peer: Peer| {
        let told = told.clone();
        async move {
            peer.settings(&[]);
            while let Some(event) = peer.next().await {
                if let Event::Settings(settings) = event {
                    told.send(settings).unwrap();
                }
            }
        }
    };
    let (_server, _registration) = stage.raw("a", script).await;
    for limit in [16 << 20, 8 << 10, 0, u32::MAX] {
        let _channel = stage.builder().http2_max_header_list_size(limit).build().unwrap();
        assert_eq!(in_time(hear.recv()).await.unwrap().iter().find(|(id, _)| *id == 6), Some(&(6, limit)));
    }
}

/// Trailers of more names than there is room for. What is cut could be anything.
#[tokio::test]
async fn trailers_of_more_names_than_fit_fail_their_call_and_say_so() {
    let many = |writer: &Writer, stream: u32| {
        writer.head(stream);
        let names: Vec<_> = (0..30_000).map(|number| format!("x{number}")).collect();
        let mut fields = vec![("grpc-status", "0")];
        fields.extend(names.iter().map(|name| (name.as_str(), "")));
        writer.headers(stream, &fields, true);
    };
    let (ended, unharmed) = outcome(|builder| builder, many).await;
    assert_told(ended, "trailers", 16 << 20);
    assert!(unharmed);
}

/// So many interim responses, and then the answer.
fn interim(count: usize) -> impl Fn(&Writer, u32) {
    move |writer, stream| {
        (0..count).for_each(|_| writer.headers(stream, &[(":status", "103")], false));
        writer.answer(stream, "a");
    }
}

#[tokio::test]
async fn a_hundred_interim_responses_are_borne_and_more_fail_their_call_and_say_so() {
    let (ended, unharmed) = outcome(|builder| builder, interim(100)).await;
    assert_eq!((ended.ok().as_deref(), unharmed), (Some("a"), true));
    for count in [101, 1_000] {
        let (ended, unharmed) = outcome(|builder| builder, interim(count)).await;
        let status = ended.unwrap_err();
        assert_eq!(status.code(), Code::Internal, "{status:?}");
        assert!(status.message().contains("more than 100 interim responses (1xx) and no answer"), "{status:?}");
        assert!(unharmed, "with {count}");
    }
}

/// A call that has no deadline ends, too.
#[tokio::test]
async fn interim_responses_keep_no_call_for_ever() {
    let stage = Stage::new();
    let script = |mut peer: Peer| async move {
        peer.settings(&[]);
        while let Some(request) = peer.request().await {
            let writer = peer.writer();
            tokio::spawn(async move {
                for _ in 0..150 {
                    writer.headers(request.stream, &[(":status", "100")], false);
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            });
        }
    };
    let (_server, _registration) = stage.raw("a", script).await;
    let channel = stage.channel(stage.builder(), 1).await;
    assert_eq!(in_time(echo(&channel).unary(request())).await.unwrap_err().code(), Code::Internal);
}

fn misdeeds() -> Vec<(&'static str, Misdeed)> {
    fn of(misdeed: impl Fn(&Writer, u32) + Send + Sync + 'static) -> Misdeed {
        Box::new(misdeed)
    }
    fn head(more: &'static [(&'static str, &'static str)]) -> Misdeed {
        of(move |writer, stream| {
            let fields = [&[(":status", "200"), ("content-type", "application/grpc")], more].concat();
            writer.headers(stream, &fields, false);
            writer.message(stream, "a");
            writer.trailers(stream, "0");
        })
    }
    vec![
        ("a content-length that is no number", head(&[("content-length", "many")])),
        ("a content-length that is too small", head(&[("content-length", "1")])),
        ("a content-length that is too large", head(&[("content-length", "1000")])),
        ("two content-lengths", head(&[("content-length", "1"), ("content-length", "2")])),
        ("a pseudo-header after a header", head(&[(":status", "200")])),
        ("an unknown pseudo-header", head(&[(":what", "ever")])),
        ("a header of a connection", head(&[("connection", "close")])),
        ("a name in upper case", head(&[("X", "y")])),
        ("a value with a line break", head(&[("x", "a\nb")])),
        ("no status", of(|writer, stream| writer.headers(stream, &[("content-type", "application/grpc")], false))),
        ("a status that is no number", of(|writer, stream| writer.headers(stream, &[(":status", "good")], false))),
        (
            "trailers that do not end",
            of(|writer, stream| {
                writer.head(stream);
                writer.headers(stream, &[("grpc-status", "0")], false);
            }),
        ),
        ("data before headers", of(|writer, stream| writer.message(stream, "a"))),
        (
            "data after the end",
            of(|writer, stream| {
                writer.refuse(stream, "5");
                writer.message(stream, "a");
            }),
        ),
        (
            "more than its window",
            of(|writer, stream| {
                writer.head(stream);
                // In one frame, so that no reader can be fast enough to make room for it.
                writer.bytes(frame(0, 0, stream, &[0; 2 * WINDOW]));
            }),
        ),
        (
            "a window that overflows",
            of(|writer, stream| {
                writer.window(stream, (1 << 31) - 1);
                writer.answer(stream, "a");
            }),
        ),
        ("a window that is not changed", of(|writer, stream| writer.window(stream, 0))),
        (
            "a stream that depends on itself",
            of(|writer, stream| {
                writer.bytes(frame(2, 0, stream, &[&stream.to_be_bytes()[..], &[1]].concat()));
            }),
        ),
        (
            "a head that depends on itself",
            of(|writer, stream| {
                writer.bytes(frame(1, 0x24, stream, &[&stream.to_be_bytes()[..], &[1, 0x88]].concat()));
            }),
        ),
        (
            "a reset and then data",
            of(|writer, stream| {
                writer.reset(stream, 2);
                writer.message(stream, "a");
            }),
        ),
        (
            "informational responses",
            of(|writer, stream| {
                (0..1_000).for_each(|_| writer.headers(stream, &[(":status", "103")], false));
                writer.answer(stream, "a");
            }),
        ),
    ]
}

/// What `h2` ends the whole connection for, before this side can do anything about it: see
/// docs/decisions/caps-of-h2.md. Nothing of it is legal. If this list gets shorter, so much the better.
const END_ALL: [&str; 6] = [
    "an unknown pseudo-header",
    "a name in upper case",
    "a value with a line break",
    "a status that is no number",
    "data before headers",
    "a window that is not changed",
];

#[tokio::test]
async fn misdeeds_that_concern_a_stream_end_that_stream() {
    let mut ends_all = Vec::new();
    for (name, misdeed) in misdeeds() {
        let settings = |builder: ChannelBuilder| {
            let (window, frame) = (WINDOW as u32, 4 * WINDOW as u32);
            builder.timeout(PATIENCE / 10).initial_stream_window_size(window).max_frame_size(frame)
        };
        let (ended, unharmed) = outcome(settings, misdeed).await;
        if !unharmed {
            let status = ended.unwrap_err();
            assert!(status.message().contains("this side ended the connection"), "{name}: {status:?}");
            ends_all.push(name);
        }
    }
    assert_eq!(ends_all, END_ALL);
}
