//! What servers and registries say may stand in the log, and never as a line of its own. One test alone in its process:
//! whether an event is wanted is remembered for all threads.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use callboard_conformance::Log;
use callboard_raw::{Peer, frame};
use common::{Stage, echo, in_time, request, until, until_refused};
use tonic::Request;

const GOAWAY: u8 = 7;

/// A line that nobody of ours has written.
const FORGED: &str = "2026-01-01T00:00:00Z ERROR forged";

/// Fails each call with a message of several lines, the third by a GOAWAY that says the same.
async fn forging(mut peer: Peer) {
    peer.settings(&[]);
    let message = FORGED.replace(' ', "%20");
    while let Some(call) = peer.request().await {
        if call.stream > 4 {
            let said = format!("\n{FORGED}\n\x1b[31m");
            let payload = [&call.stream.to_be_bytes()[..], &11_u32.to_be_bytes(), said.as_bytes()].concat();
            peer.bytes(frame(GOAWAY, 0, 0, &payload));
            return;
        }
        let message = format!("no%0A{message}%0D%0A%1B[31m");
        let fields = [
            (":status", "200"),
            ("content-type", "application/grpc"),
            ("grpc-status", "14"),
            ("grpc-message", &message),
        ];
        peer.headers(call.stream, &fields, true);
    }
}

#[tokio::test]
async fn nobody_forges_a_line_of_the_log_and_no_secret_is_in_it() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _default = tracing::subscriber::set_default(subscriber);
    let stage = Stage::new();
    // A policy, so that the message is looked at, and kept, before the call is sent again.
    let policy = r#"{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 2, "initialBackoff": "0.01s",
        "maxBackoff": "0.01s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}"#;
    stage.put_service_config(Some(policy)).await;
    let (server, _registration) = stage.raw("a", forging).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let secret = || {
        let mut request = Request::new(request());
        request.metadata_mut().insert("authorization", "Bearer hunter2".parse().unwrap());
        request
    };
    for _ in 0..2 {
        let status = in_time(echo(&channel).unary(secret())).await.unwrap_err();
        assert!(status.message().contains("forged"), "{status:?}");
    }
    until("it has come back", || server.stats().accepted > 1).await;
    let record = format!("{{\n{FORGED}\n\u{1b}[31m");
    stage.board.put(&stage.service, "b", Some(record.as_bytes()));
    stage.board.put(&stage.service, &format!("c\n{FORGED}"), Some(record.as_bytes()));
    stage.board.put(&stage.service, callboard::CONFIG_NAME, Some(format!("[\"\\n{FORGED}\\n\"]").as_bytes()));
    until_refused(&channel, "expected").await;
    let log = log.take();
    // What is looked for could be found.
    assert!(log.contains("recv HEADERS") && log.contains("ERROR forged"), "{} bytes", log.len());
    let forged = log.lines().find(|line| line.starts_with(FORGED));
    assert_eq!(forged, None);
    assert!(!log.contains('\x1b') && !log.contains('\r'));
    assert!(!log.contains("hunter2"));
}
