//! HTTP/2's numbers: what the server is told, and how fast a stream is over a long way.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::{Duration, Instant};

use callboard::{Channel, ChannelBuilder, ErrorKind};
use callboard_echo::EchoServer;
use callboard_echo::pb::EchoRequest;
use callboard_raw::{Event, Mode, Peer, Proxy};
use common::{Stage, echo, in_time, request};
use tokio::sync::mpsc;

const MIB: usize = 1 << 20;
const HEADER_TABLE_SIZE: u16 = 1;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_FRAME_SIZE: u16 = 5;

/// There and back, so long that processors do not limit what a window of 2 MiB can carry.
const LONG_WAY: Duration = Duration::from_millis(300);

type Configure = fn(ChannelBuilder) -> ChannelBuilder;

/// What the channel says first: its SETTINGS, and how much it raises the connection's window.
async fn told(configure: impl FnOnce(ChannelBuilder) -> ChannelBuilder) -> (Vec<(u16, u32)>, u32) {
    let stage = Stage::new();
    let (told, mut hear) = mpsc::unbounded_channel();
    let script = move |mut peer: Peer| {
        let told = told.clone();
        async move {
            while let Some(event) = peer.next().await {
                told.send(event).unwrap();
            }
        }
    };
    let (_server, _registration) = stage.raw("a", script).await;
    let _channel = configure(stage.builder()).build().unwrap();
    let (mut settings, mut window) = (None, 65_535);
    while settings.is_none() || window == 65_535 {
        match in_time(hear.recv()).await.unwrap() {
            Event::Settings(said) => settings = Some(said),
            Event::Window { stream: 0, by } => window += by,
            _ => {}
        }
    }
    (settings.unwrap_or_default(), window)
}

fn setting(settings: &[(u16, u32)], id: u16) -> Option<u32> {
    settings.iter().find(|(known, _)| *known == id).map(|(_, value)| *value)
}

#[tokio::test]
async fn the_server_is_told_what_the_settings_are() {
    let (settings, window) = told(|builder| builder).await;
    assert_eq!((setting(&settings, INITIAL_WINDOW_SIZE), window), (Some(2 << 20), (1 << 31) - 1));
    let (settings, window) = told(|builder| {
        builder
            .initial_stream_window_size(300_000)
            .initial_connection_window_size(400_000)
            .max_frame_size(50_000)
            .http2_header_table_size(10_000)
    })
    .await;
    let said = [INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, HEADER_TABLE_SIZE].map(|id| setting(&settings, id));
    assert_eq!((said, window), ([Some(300_000), Some(50_000), Some(10_000)], 400_000));
    // Less than HTTP/2 begins with counts as that, as in grpc-go.
    let (settings, _) = told(|builder| builder.initial_stream_window_size(1)).await;
    assert_eq!(setting(&settings, INITIAL_WINDOW_SIZE), Some(65_535));
    let (settings, window) = told(|builder| {
        builder.initial_stream_window_size(100_000).initial_connection_window_size(100_000).http2_adaptive_window(true)
    })
    .await;
    assert_eq!((setting(&settings, INITIAL_WINDOW_SIZE), window), (Some(2 << 20), (1 << 31) - 1));
}

#[tokio::test]
async fn what_http2_does_not_permit_is_refused_by_its_name() {
    let stage = Stage::new();
    let wrong: [(&str, Configure); 4] = [
        ("initial_stream_window_size", |builder| builder.initial_stream_window_size(1 << 31)),
        ("initial_connection_window_size", |builder| builder.initial_connection_window_size(u32::MAX)),
        ("max_frame_size is 16383; HTTP/2 permits 16384 to 16777215", |builder| builder.max_frame_size((1 << 14) - 1)),
        ("max_frame_size", |builder| builder.max_frame_size(1 << 24)),
    ];
    for (name, configure) in wrong {
        let error = configure(stage.builder()).build().unwrap_err();
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains(name), "{error}");
    }
}

/// Calls work whatever the numbers are.
#[tokio::test]
async fn the_least_and_the_most_of_each_setting_serve() {
    let stage = Stage::new();
    let (_server, _registration) = stage.server("a").await;
    let extremes: [Configure; 8] = [
        |builder| builder.initial_stream_window_size(0).initial_connection_window_size(0),
        |builder| builder.initial_stream_window_size((1 << 31) - 1).initial_connection_window_size((1 << 31) - 1),
        |builder| builder.max_frame_size(1 << 14),
        |builder| builder.max_frame_size((1 << 24) - 1),
        |builder| builder.http2_header_table_size(0),
        |builder| builder.http2_header_table_size(u32::MAX),
        |builder| builder.http2_max_header_list_size(u32::MAX),
        |builder| builder.initial_stream_window_size(0).http2_adaptive_window(true),
    ];
    for (index, configure) in extremes.into_iter().enumerate() {
        let channel = stage.channel(configure(stage.builder()), 1).await;
        for size in [4, 3 * MIB] {
            let asked = EchoRequest { payload: vec![7; size], ..request() };
            let answer = in_time(echo(&channel).unary(asked)).await;
            assert_eq!(answer.unwrap().into_inner().payload.len(), size, "{index}");
        }
    }
}

/// How many MiB a second a stream of so many has, once 16 have come.
async fn speed(channel: &Channel, count: usize) -> f64 {
    let asked = EchoRequest { payload: vec![7; MIB], repeat: (16 + count) as u32, ..request() };
    let mut stream = echo(channel).server_streaming(asked).await.unwrap().into_inner();
    let mut begun = Instant::now();
    for received in 0..16 + count {
        if received == 16 {
            begun = Instant::now();
        }
        in_time(stream.message()).await.unwrap().unwrap();
    }
    count as f64 / begun.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_over_a_long_way_is_as_fast_as_the_way_permits() {
    let stage = Stage::new();
    let server = EchoServer::start("a").await.unwrap();
    let proxy = Proxy::to(server.address()).await;
    proxy.set(Mode::Delay(LONG_WAY / 2)).await;
    let _registration = stage.sign_in("a", proxy.address().try_into().unwrap(), 1).await;
    let fixed = stage.channel(stage.builder().http2_adaptive_window(false), 1).await;
    let adaptive = stage.channel(stage.builder(), 1).await;
    let (fixed, adaptive) = (speed(&fixed, 8).await, speed(&adaptive, 48).await);
    println!(
        "MiB a second, {LONG_WAY:?} there and back: {fixed:.1} with a window of 2 MiB, {adaptive:.1} with one that adapts"
    );
    // What the fixed one can carry is set by the way. A machine carries more than twice as much, however slow it is.
    let most = 2.0 / LONG_WAY.as_secs_f64();
    assert!(fixed < 1.1 * most && adaptive > 2.0 * most, "{fixed}, {adaptive}");
}

/// Small answers are no reason to measure: a server that counts PINGs gets none.
#[tokio::test]
async fn calls_with_small_answers_cost_no_ping() {
    let stage = Stage::new();
    let (pings, mut noted) = mpsc::unbounded_channel();
    let script = move |mut peer: Peer| {
        let pings = pings.clone();
        async move {
            peer.settings(&[]);
            while let Some(event) = peer.next().await {
                match event {
                    Event::Data { stream, end: true, .. } => peer.answer(stream, "a"),
                    Event::Ping(_) => pings.send(()).unwrap(),
                    _ => {}
                }
            }
        }
    };
    let (_server, _registration) = stage.raw("a", script).await;
    let channel = stage.channel(stage.builder(), 1).await;
    for _ in 0..300 {
        in_time(echo(&channel).unary(request())).await.unwrap();
    }
    assert!(noted.try_recv().is_err());
}
