//! A large stream in bounded memory. Alone in its file, because it measures the whole process.
#![cfg(target_os = "linux")]
// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use callboard_echo::pb::EchoRequest;
use common::{Stage, echo, in_time};
use futures_util::{StreamExt, stream};

/// Messages of 1 MiB in the large stream: together 1 GiB. An unoptimised build takes six seconds for that.
const LARGE_STREAM: usize = 1_024;
/// How much a process may grow while that passes through client and server. It is far below the whole.
const BOUND: usize = 48 << 20;

fn payload(length: usize) -> EchoRequest {
    EchoRequest { payload: vec![7; length], ..EchoRequest::default() }
}

/// What this process has in memory, in bytes.
fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[tokio::test]
async fn a_large_stream_passes_in_bounded_memory_both_ways() {
    let stage = Stage::new();
    let (_server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    let most = Arc::new(AtomicUsize::new(0));
    let before = memory();
    let noted = Arc::clone(&most);
    let note = move || {
        noted.fetch_max(memory().saturating_sub(before), Ordering::SeqCst);
    };
    // Each message comes back before the next one is made.
    let noting = note.clone();
    let messages = stream::iter((0..LARGE_STREAM).map(move |_| {
        noting();
        payload(1 << 20)
    }));
    let mut answers = in_time(echo(&channel).bidirectional(messages)).await.unwrap().into_inner();
    let mut received = 0;
    while let Some(answer) = in_time(answers.next()).await {
        received += answer.unwrap().payload.len();
        note();
    }
    assert_eq!(received, LARGE_STREAM << 20);
    let most = most.load(Ordering::SeqCst);
    assert!(most < BOUND, "grew by {} MiB", most >> 20);
}
