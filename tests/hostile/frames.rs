//! Servers that send frames of HTTP/2 that no client needs, or that it must not have: as fast as they are taken, at each
//! request.

use std::time::Duration;

use callboard_raw::{Peer, frame};

use crate::scene::Scene;
use crate::trial::Trial;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// An answer's `:status: 200`, `content-type: application/grpc`, in HPACK.
const HEAD: &[u8] = b"\x88\x0f\x10\x10application/grpc";
/// `:status: 103`.
const INTERIM: &[u8] = b"\x08\x03103";

fn trial(name: &'static str) -> Trial {
    Trial { lasting: Duration::from_millis(1_500), ..Trial::of(name) }
}

/// What is sent once and what is sent over and over, to a request of this stream.
type Attack = fn(u32) -> (Vec<u8>, Vec<u8>);

/// Registers a server for each attack.
async fn attack(scene: &Scene, attacks: &[Attack]) {
    for (index, attack) in attacks.iter().copied().enumerate() {
        let script = move |mut peer: Peer| async move {
            peer.settings(&[]);
            while let Some(stream) = peer.opened().await {
                let (once, often) = attack(stream);
                peer.bytes(once);
                if !often.is_empty() {
                    peer.flood(often.repeat(1 + 4096 / often.len()));
                }
            }
        };
        scene.raw(&format!("attacker-{index}"), script).await;
    }
}

#[test]
fn floods_of_frames_that_carry_nothing() {
    trial("frames::floods_of_frames_that_carry_nothing").run(async |scene| {
        attack(
            scene,
            &[
                |stream| (vec![], frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 1])),
                |_| (vec![], frame(0xfa, 0, 0, &[0; 4])),
                |stream| (vec![], frame(HEADERS, END_HEADERS, stream, INTERIM)),
                |stream| (frame(HEADERS, END_HEADERS, stream, HEAD), frame(DATA, 0, stream, &[])),
                |_| (vec![], frame(PING, 0, 0, &[0; 8])),
                |_| (vec![], frame(SETTINGS, 0, 0, &[])),
                |_| (vec![], frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
                |stream| (vec![], frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])),
                |_| (vec![], frame(GOAWAY, 0, 0, &[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0])),
            ],
        )
        .await;
    });
}

#[test]
fn floods_of_small_data() {
    Trial { growth: 64, ..trial("frames::floods_of_small_data") }.run(async |scene| {
        attack(
            scene,
            &[
                // For a call that is over.
                |stream| (frame(HEADERS, END_HEADERS | END_STREAM, stream, HEAD), frame(DATA, 0, stream, &[0])),
                // Messages without anything in them, as many as are taken.
                |stream| (frame(HEADERS, END_HEADERS, stream, HEAD), frame(DATA, 0, stream, &[0; 5])),
            ],
        )
        .await;
    });
}

#[test]
fn blocks_of_headers_without_an_end() {
    Trial { growth: 128, ..trial("frames::blocks_of_headers_without_an_end") }.run(async |scene| {
        attack(
            scene,
            &[
                |stream| (frame(HEADERS, 0, stream, HEAD), frame(CONTINUATION, 0, stream, b"\0\x01a\x01b")),
                |stream| (frame(HEADERS, 0, stream, HEAD), frame(CONTINUATION, 0, stream, &[])),
                // Many interim responses, each of many small pieces.
                |stream| {
                    let piece = frame(CONTINUATION, 0, stream, b"\0\x01a\x01b").repeat(2_000);
                    let end = frame(CONTINUATION, END_HEADERS, stream, &[]);
                    (vec![], [frame(HEADERS, 0, stream, INTERIM), piece, end].concat())
                },
                |stream| (vec![], frame(PUSH_PROMISE, END_HEADERS, stream, &[0, 0, 0, 2, 0x82, 0x87, 0x84])),
                |_| (frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]), vec![]),
            ],
        )
        .await;
    });
}

/// Lists of headers that take a byte for each 4,000 that they unfold to.
#[test]
fn lists_of_headers_that_unfold() {
    Trial { growth: 128, ..trial("frames::lists_of_headers_that_unfold") }.run(async |scene| {
        let script = |mut peer: Peer| async move {
            peer.settings(&[]);
            while let Some(stream) = peer.opened().await {
                // An entry of the table, `x` with 4,000 bytes, and then its number again and again.
                let entry = [&b"\x88\x40\x01x\x7f\xa1\x1e"[..], &[b'y'; 4_000]].concat();
                peer.bytes(frame(HEADERS, 0, stream, &entry));
                for _ in 0..40 {
                    peer.bytes(frame(CONTINUATION, 0, stream, &[0xbe; 500]));
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }
        };
        scene.raw("a", script).await;
    });
}
