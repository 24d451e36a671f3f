//! Frames in an order that no server would send them in.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use callboard_raw::{Peer, serve};
use common::{Stage, echo, endpoint, in_time, quick, request, until, within};
use proptest::prelude::*;
use tonic::Code;

/// Something that a server may send, with or without reason.
#[derive(Clone, Debug)]
enum Noise {
    Head(u32, bool),
    Http(u32, u16, bool),
    Trailers(u32, String),
    Message(u32),
    Data(u32, Vec<u8>, bool),
    Reset(u32, u32),
    GoAway(u32, u32),
    Window(u32, u32),
    Settings(u16, u32),
    Bytes(Vec<u8>),
    HalfClose,
}

impl Noise {
    fn send(&self, peer: &Peer) {
        match self {
            Self::Head(stream, end) => peer.headers(*stream, &[(":status", "200")], *end),
            Self::Http(stream, status, end) => peer.headers(*stream, &[(":status", &status.to_string())], *end),
            Self::Trailers(stream, status) => peer.trailers(*stream, status),
            Self::Message(stream) => peer.message(*stream, "a"),
            Self::Data(stream, data, end) => peer.data(*stream, data, *end),
            Self::Reset(stream, code) => peer.reset(*stream, *code),
            Self::GoAway(last, code) => peer.go_away(*last, *code),
            Self::Window(stream, by) => peer.window(*stream, *by),
            Self::Settings(id, value) => peer.settings(&[(*id, *value)]),
            Self::Bytes(bytes) => peer.bytes(bytes.clone()),
            Self::HalfClose => peer.half_close(),
        }
    }
}

fn noise() -> impl Strategy<Value = Noise> {
    // Mostly the stream of the call.
    let stream = || prop_oneof![6 => Just(1_u32), 1 => Just(0), 1 => Just(3), 1 => Just(2), 1 => any::<u32>()];
    prop_oneof![
        3 => (stream(), any::<bool>()).prop_map(|(stream, end)| Noise::Head(stream, end)),
        1 => (stream(), 0_u16..1_000, any::<bool>()).prop_map(|(stream, status, end)| Noise::Http(stream, status, end)),
        2 => (stream(), "[0-9a-z -]{0,4}").prop_map(|(stream, status)| Noise::Trailers(stream, status)),
        2 => stream().prop_map(Noise::Message),
        2 => (stream(), prop::collection::vec(any::<u8>(), 0..40), any::<bool>())
            .prop_map(|(stream, data, end)| Noise::Data(stream, data, end)),
        1 => (stream(), 0_u32..20).prop_map(|(stream, code)| Noise::Reset(stream, code)),
        1 => (stream(), 0_u32..20).prop_map(|(last, code)| Noise::GoAway(last, code)),
        1 => (stream(), any::<u32>()).prop_map(|(stream, by)| Noise::Window(stream, by)),
        1 => (0_u16..10, any::<u32>()).prop_map(|(id, value)| Noise::Settings(id, value)),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Noise::Bytes),
        1 => Just(Noise::HalfClose),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever a server sends, the call ends, nothing of it is left, and the endpoint works again once the server does.
    #[test]
    fn whatever_a_server_sends_the_call_ends_and_the_channel_goes_on(noises in prop::collection::vec(noise(), 1..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let stage = Stage::new();
            let (_server, _registration) = stage
                .raw("a", move |mut peer: Peer| {
                    let noises = noises.clone();
                    async move {
                        if peer.number() > 1 {
                            return serve("again", peer).await;
                        }
                        peer.settings(&[]);
                        if peer.request().await.is_none() {
                            return;
                        }
                        noises.iter().for_each(|noise| noise.send(&peer));
                        // Until the call is over at the latest.
                        let _ = tokio::time::timeout(Duration::from_millis(100), peer.ignore()).await;
                    }
                })
                .await;
            let channel = stage.channel(stage.builder().backoff(quick()), 1).await;
            let first = in_time(echo(&channel).unary(within(Duration::from_millis(50), request()))).await;
            if let Err(status) = first {
                // No status can be OK here, and none is about this side's own faults.
                assert_ne!(status.code(), Code::Ok, "{status:?}");
            }
            until("the call is over", || endpoint(&channel, "a").endpoint.in_flight() == 0).await;
            let mut again = tonic::Request::new(request());
            again.extensions_mut().insert(callboard::WaitForReady(true));
            let mut calls = 0;
            // The first connection may live for a little while.
            while in_time(echo(&channel).unary(again)).await.is_err() {
                calls += 1;
                assert!(calls < 100);
                again = tonic::Request::new(request());
                again.extensions_mut().insert(callboard::WaitForReady(true));
            }
        });
    }
}
