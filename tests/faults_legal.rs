//! Servers that do what HTTP/2 permits and few do. It must cost no call.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use callboard::{Channel, ConnectivityState};
use callboard_raw::{Event, Peer, RawServer, Writer, code};
use common::{PATIENCE, Stage, echo, in_time, request, until, within};

const CALLERS: usize = 64;
const CALLS: usize = 50;

/// A DATA frame with nothing in it but so much padding.
fn padded(stream: u32, padding: u8) -> Vec<u8> {
    let mut bytes = vec![0, 0, padding + 1, 0, 8];
    bytes.extend(stream.to_be_bytes());
    bytes.push(padding);
    bytes.extend(vec![0; padding.into()]);
    bytes
}

/// Answers requests; before the trailers stands what `between` writes.
async fn answering(mut peer: Peer, between: fn(&Writer, u32)) {
    peer.settings(&[]);
    while let Some(request) = peer.request().await {
        peer.head(request.stream);
        peer.message(request.stream, "a");
        between(&peer, request.stream);
        peer.trailers(request.stream, "0");
    }
}

async fn served(stage: &Stage, between: fn(&Writer, u32)) -> (RawServer, callboard::Registration, Channel) {
    let (server, registration) = stage.raw("a", move |peer| answering(peer, between)).await;
    let channel = stage.channel(stage.builder(), 1).await;
    (server, registration, channel)
}

/// Many calls by many callers. Returns how many have failed, and one of their errors.
async fn failures(channel: &Channel) -> (usize, Option<tonic::Status>) {
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let mut client = echo(channel);
            tokio::spawn(async move {
                let mut failed = Vec::new();
                for _ in 0..CALLS {
                    failed.extend(client.unary(within(PATIENCE, request())).await.err());
                }
                failed
            })
        })
        .collect();
    let mut failed = Vec::new();
    for caller in callers {
        failed.extend(in_time(caller).await.unwrap());
    }
    (failed.len(), failed.pop())
}

#[tokio::test]
async fn no_call_fails_when_each_response_has_an_empty_data_frame() {
    let stage = Stage::new();
    let (server, _registration, channel) = served(&stage, |writer, stream| writer.data(stream, &[], false)).await;
    let (failed, error) = failures(&channel).await;
    assert_eq!(failed, 0, "of {}: {error:?}", CALLERS * CALLS);
    assert_eq!(server.stats().accepted, 1, "one connection serves them all");
}

/// `h2` has to see these frames, because padding counts in the windows. So connections are replaced.
#[tokio::test]
async fn no_call_fails_when_each_response_has_a_data_frame_of_padding_alone() {
    let stage = Stage::new();
    let (server, _registration, channel) = served(&stage, |writer, stream| writer.bytes(padded(stream, 100))).await;
    let mut client = echo(&channel);
    for _ in 0..150 {
        in_time(client.unary(request())).await.unwrap();
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let accepted = server.stats().accepted;
    assert!((3..=4).contains(&accepted), "connections are replaced in good time: {accepted}");
}

/// Empty frames that are cut at every place, and those that end a response.
#[tokio::test]
async fn an_empty_frame_is_passed_over_however_it_arrives_and_the_last_one_is_heard() {
    let stage = Stage::new();
    let script = |mut peer: Peer| async move {
        peer.settings(&[]);
        let mut cut = 0;
        while let Some(request) = peer.request().await {
            peer.head(request.stream);
            peer.message(request.stream, "a");
            let mut bytes = [&[0; 5][..], &request.stream.to_be_bytes()].concat();
            bytes.extend(bytes.clone());
            let rest = bytes.split_off(cut % 18);
            cut += 1;
            peer.bytes(bytes);
            tokio::time::sleep(Duration::from_millis(2)).await;
            peer.bytes(rest);
            peer.trailers(request.stream, "0");
        }
    };
    let (server, _registration) = stage.raw("a", script).await;
    let channel = stage.channel(stage.builder(), 1).await;
    for _ in 0..100 {
        in_time(echo(&channel).unary(request())).await.unwrap();
    }
    assert_eq!(server.stats().accepted, 1);
}

#[tokio::test]
async fn no_connection_ends_over_a_head_in_many_small_pieces() {
    let stage = Stage::new();
    let script = |mut peer: Peer| async move {
        peer.settings(&[]);
        while let Some(request) = peer.request().await {
            peer.bytes(head_in_pieces(request.stream, 40));
            peer.message(request.stream, "a");
            peer.trailers(request.stream, "0");
        }
    };
    let (server, _registration) = stage.raw("a", script).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let (failed, error) = failures(&channel).await;
    assert_eq!((failed, server.stats().accepted), (0, 1), "{error:?}");
}

/// The head of a response, of which each CONTINUATION frame has one byte.
fn head_in_pieces(stream: u32, more: u8) -> Vec<u8> {
    let field = |name: &str, value: &str| {
        let mut bytes = vec![0, name.len() as u8];
        bytes.extend(name.as_bytes());
        bytes.push(value.len() as u8);
        bytes.extend(value.as_bytes());
        bytes
    };
    let mut block = [field(":status", "200"), field("content-type", "application/grpc")].concat();
    block.extend(field("x", &"y".repeat(more.into())));
    let tail = block.split_off(block.len() - usize::from(more));
    let frame = |kind: u8, flags: u8, payload: &[u8]| {
        let mut bytes = vec![0, 0, payload.len() as u8, kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    };
    let mut bytes = frame(1, 0, &block);
    for (index, byte) in tail.iter().enumerate() {
        let last = index + 1 == tail.len();
        bytes.extend(frame(9, if last { 4 } else { 0 }, &[*byte]));
    }
    bytes
}

/// A frame whose payload is so many bytes of 0.
fn frame(kind: u8, flags: u8, stream: u32, length: u8) -> Vec<u8> {
    callboard_raw::frame(kind, flags, stream, &vec![0; length.into()])
}

/// A server that sends nothing but frames that carry nothing, as fast as it can, keeps nobody busy for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_frames_that_carry_nothing_ends_its_connection_and_says_so() {
    // The stream is the call's, or that of the connection.
    let floods = [
        ("empty DATA", 0, 0, 1, 0),
        ("PRIORITY", 2, 0, 1, 5),
        ("SETTINGS", 4, 0, 0, 0),
        ("PING", 6, 0, 0, 8),
        ("those of type 0xfa", 0xfa, 0, 0, 1),
    ];
    for (name, kind, flags, stream, length) in floods {
        let stage = Stage::new();
        let script = move |mut peer: Peer| async move {
            peer.settings(&[]);
            while let Some(request) = peer.request().await {
                peer.head(request.stream);
                peer.flood(frame(kind, flags, stream * request.stream, length).repeat(1_000));
            }
        };
        let (server, registration) = stage.raw("a", script).await;
        let channel = stage.channel(stage.builder(), 1).await;
        let status = in_time(echo(&channel).unary(within(PATIENCE / 2, request()))).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unavailable, "{name}: {status:?}");
        let why = format!(
            "this side ended the connection: the server has sent 10000 frames within 1s that carry nothing, such as {name}"
        );
        assert!(status.message().contains(&why), "{name}: {status:?}");
        until("it counts as failed", || channel.state() == ConnectivityState::TransientFailure).await;
        assert_eq!(server.stats().accepted, 1, "{name}: it is not dialled at once");
        registration.deregister().await.unwrap();
    }
}

/// Whoever answers calls and floods this side has them no longer: others get them, and it is dialled seldom.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_floods_counts_as_failed_although_it_answers() {
    let stage = Stage::new();
    let script = |mut peer: Peer| async move {
        peer.settings(&[]);
        while let Some(request) = peer.request().await {
            peer.answer(request.stream, "flooding");
            peer.flood(frame(2, 0, 1, 5).repeat(1_000));
        }
    };
    let (flooding, _a) = stage.raw("flooding", script).await;
    let (_good, _b) = stage.server("good").await;
    let channel = stage.channel(stage.builder(), 2).await;
    let begun = Instant::now();
    let (mut calls, mut failed) = (0, 0);
    while begun.elapsed() < Duration::from_millis(1_500) {
        calls += 1;
        failed += u32::from(in_time(echo(&channel).unary(request())).await.is_err());
    }
    let accepted = flooding.stats().accepted;
    assert!((1..=3).contains(&accepted), "{accepted} connections in {:?}", begun.elapsed());
    assert!(failed <= 3 && calls > 20, "{failed} of {calls}");
}

/// What peers send because of the calls that they are given: as much as a peer could think of for each frame.
#[tokio::test]
async fn no_connection_ends_over_what_goes_with_calls() {
    const MESSAGES: usize = 10_000;
    let stage = Stage::new();
    let script = |mut peer: Peer| async move {
        peer.settings(&[]);
        while let Some(event) = peer.next().await {
            match event {
                // The windows are opened for each frame already, of the stream and of the connection.
                Event::Data { stream, end: false, .. } => {
                    peer.ping([7; 8]);
                    peer.bytes(frame(4, 0, 0, 0));
                    peer.bytes(frame(2, 0, stream, 5));
                    peer.bytes(frame(0xfa, 0, 0, 1));
                }
                Event::Data { stream, end: true, .. } => peer.answer(stream, "a"),
                _ => {}
            }
        }
    };
    let (server, _registration) = stage.raw("a", script).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let messages = futures_util::stream::iter(std::iter::repeat_with(request).take(MESSAGES));
    in_time(echo(&channel).client_streaming(messages)).await.unwrap();
    assert_eq!(server.stats().accepted, 1);
}

/// Small messages that nobody has read yet, of which `h2` would bear fewer the smaller the windows are.
#[tokio::test]
async fn no_connection_ends_over_small_messages_that_nobody_reads() {
    const FRAMES: usize = 5_000;
    let stage = Stage::new();
    let script = |mut peer: Peer| async move {
        peer.settings(&[]);
        while let Some(request) = peer.request().await {
            peer.head(request.stream);
            (0..FRAMES).for_each(|_| peer.message(request.stream, "a"));
            peer.trailers(request.stream, "0");
        }
    };
    let (server, _registration) = stage.raw("a", script).await;
    let channel = stage.channel(stage.builder().initial_connection_window_size(1 << 20), 1).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(in_time(echo(&channel).server_streaming(request())).await.unwrap().into_inner());
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    for mut stream in streams {
        let mut messages = 0;
        while in_time(stream.message()).await.unwrap().is_some() {
            messages += 1;
        }
        assert_eq!(messages, FRAMES);
    }
    assert_eq!(server.stats().accepted, 1);
}

/// Answers that were on their way when their calls were given up. `h2` answers to those that it has forgotten with one more
/// reset each, and servers count resets.
#[tokio::test]
async fn late_answers_to_calls_that_were_given_up_cost_no_further_resets() {
    const GIVEN_UP: usize = 500;
    let stage = Stage::new();
    let (told, mut hear) = tokio::sync::mpsc::unbounded_channel();
    let script = move |mut peer: Peer| {
        let told = told.clone();
        async move {
            peer.settings(&[]);
            let mut given_up = Vec::new();
            while let Some(event) = peer.next().await {
                match event {
                    Event::Reset { stream, code } => {
                        told.send(code).unwrap();
                        given_up.push(stream);
                        if given_up.len() == GIVEN_UP {
                            given_up.iter().for_each(|stream| peer.answer(*stream, "late"));
                        }
                    }
                    Event::Data { stream, end: true, .. } if given_up.len() >= GIVEN_UP => peer.answer(stream, "a"),
                    _ => {}
                }
            }
        }
    };
    let (server, _registration) = stage.raw("a", script).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let calls: Vec<_> = (0..GIVEN_UP)
        .map(|_| {
            let mut client = echo(&channel);
            tokio::spawn(async move { client.unary(request()).await })
        })
        .collect();
    in_time(server.until(|stats| stats.requests == GIVEN_UP)).await;
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    for _ in 0..GIVEN_UP {
        assert_eq!(in_time(hear.recv()).await, Some(code::CANCEL));
    }
    in_time(echo(&channel).unary(request())).await.unwrap();
    assert_eq!((hear.try_recv().ok(), server.stats().accepted), (None, 1));
}
