//! The PINGs that measure a path are borne by grpc-go's server, which ends connections that PING too often.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "common/grpc_go.rs"]
mod grpc_go;

use std::time::Duration;

use callboard_raw::{Mode, Proxy};
use common::{Stage, echo, endpoint, in_time, request};
use grpc_go::{Program, Tap, frames};

const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;

fn count(bytes: &[u8], kind: u8) -> usize {
    frames(bytes).iter().filter(|frame| frame.kind == kind && frame.bytes[4] & ACK == 0).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go: make test"]
async fn a_server_of_grpc_gos_bears_the_pings_that_measure_the_path() {
    let mut server = Program::go("stream_server", &[]).await;
    let tap = Tap::to(server.first_answer().await.parse().unwrap()).await;
    let proxy = Proxy::to(tap.address).await;
    proxy.set(Mode::Delay(Duration::from_millis(10))).await;
    let stage = Stage::new();
    let _registration = stage.sign_in("a", proxy.address().try_into().unwrap(), 1).await;
    let channel = stage.channel(stage.builder(), 1).await;
    for _ in 0..2 {
        let mut stream = in_time(echo(&channel).server_streaming(request())).await.unwrap().into_inner();
        let mut messages = 0;
        while in_time(stream.message()).await.unwrap().is_some() {
            messages += 1;
        }
        assert_eq!(messages, 64);
    }
    const PREFACE: usize = 24;
    let pings = count(&tap.passed.by_client.lock().unwrap()[PREFACE..], PING);
    let go_aways = count(&tap.passed.by_server.lock().unwrap(), GOAWAY);
    println!("{pings} PINGs, {go_aways} GOAWAYs");
    // Four that come too early are too many for it.
    assert!(pings >= 2 && go_aways == 0, "{pings}, {go_aways}");
    assert!(endpoint(&channel, "a").connection_error.is_none());
}
