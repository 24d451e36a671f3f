//! What a server does on its connections, while calls are outstanding: whatever it is, each call ends in time, no task
//! panics, and a channel that is dropped leaves nothing behind.
#![no_main]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arbitrary::Arbitrary;
use callboard::{CallError, Channel, WaitForReady};
use callboard_fuzz::{Frame, Stage, assert_short, paused, within};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, WriteHalf, split};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

const DEADLINE: Duration = Duration::from_secs(5);
/// How long a server does as it was told, at most.
const SCRIPT: Duration = Duration::from_secs(20);
/// What a connection and its calls may take, whatever the server writes: the windows are 2 MiB for each stream.
const MEMORY: usize = 16 << 20;

#[derive(Arbitrary, Debug)]
struct Input {
    /// What the server does on one connection after the other; on all further ones it does nothing.
    connections: Vec<Vec<Act>>,
    /// Whether each begins with good SETTINGS.
    polite: bool,
    calls: Vec<Making>,
    config: bool,
}

#[derive(Arbitrary, Debug)]
enum Act {
    Write(Frame),
    /// Time passes, in milliseconds.
    Wait(u16),
    /// It does not read any more.
    Deaf,
    Close,
}

/// How a call is made.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Making {
    after: u8,
    size: u16,
    streams: bool,
    waits: bool,
    /// The caller gives it up after so many milliseconds.
    given_up: Option<u8>,
}

const CONFIG: &str = r#"{"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.1s",
    "maxBackoff": "1s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE", "INTERNAL"]}}]}"#;

fuzz_target!(|input: Input| {
    within(MEMORY, || paused(run(input)));
});

async fn run(input: Input) {
    let Input { connections, polite, calls, config } = input;
    let stage = Stage::new();
    stage.sign_in("a", "10.0.0.1:1", "backend");
    if config {
        stage.board.put(&stage.service, callboard::CONFIG_NAME, Some(CONFIG.as_bytes()));
    }
    let scripts = Arc::new(Mutex::new(connections.into_iter()));
    let builder = stage.builder(move |_, connection| {
        let acts = scripts.lock().expect("no panic").next().unwrap_or_default();
        act(connection, polite, acts)
    });
    let channel = builder.build().expect("a channel");
    let calls = calls.into_iter().take(4).map(|making| tokio::spawn(call(channel.clone(), making)));
    for call in calls.collect::<Vec<_>>() {
        call.await.expect("no panic");
    }
    let _ = format!("{channel:?} {:?}", channel.endpoints());
    stage.end(channel).await;
}

/// The server's side of one connection, which lasts until the client closes it.
async fn act(connection: DuplexStream, polite: bool, acts: Vec<Act>) {
    let (mut read, mut write) = split(connection);
    let listens = tokio::spawn(async move {
        let mut buffer = vec![0; 4 << 10];
        while read.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    });
    if polite && write.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0]).await.is_err() {
        return;
    }
    let closes = timeout(SCRIPT, follow(&mut write, &listens, acts)).await.is_ok_and(|closes| closes);
    if closes {
        listens.abort();
        return;
    }
    // It goes on for as long as the client does, and no longer than anybody waits for it here.
    let _ = timeout(Duration::from_secs(30), listens).await;
}

/// Does all this. True if it closes the connection in the end.
async fn follow(write: &mut WriteHalf<DuplexStream>, listens: &JoinHandle<()>, acts: Vec<Act>) -> bool {
    for act in acts {
        match act {
            Act::Write(frame) => {
                let mut bytes = Vec::new();
                frame.write(&mut bytes);
                if write.write_all(&bytes).await.is_err() {
                    return false;
                }
            }
            Act::Wait(millis) => sleep(Duration::from_millis(millis.into())).await,
            Act::Deaf => listens.abort(),
            Act::Close => return true,
        }
    }
    false
}

async fn call(channel: Channel, making: Making) {
    let Making { after, size, streams, waits, given_up } = making;
    sleep(Duration::from_millis(after.into())).await;
    let mut request = Request::new("x".repeat(size.into()));
    request.set_timeout(DEADLINE);
    request.extensions_mut().insert(WaitForReady(waits));
    let begun = Instant::now();
    let call = async { if streams { stream(&channel, request).await } else { unary(&channel, request).await } };
    let patience = given_up.map_or(2 * DEADLINE, |millis| Duration::from_millis(millis.into()));
    let Ok(result) = timeout(patience, call).await else {
        assert!(given_up.is_some(), "a call has not ended within {:?}", begun.elapsed());
        return;
    };
    assert!(begun.elapsed() <= DEADLINE + Duration::from_millis(10), "it has ended after {:?}", begun.elapsed());
    if let Err(status) = result
        && CallError::of(&status).is_some()
    {
        assert_short(status.message());
    }
}

async fn unary(channel: &Channel, request: Request<String>) -> Result<(), Status> {
    let (path, codec) = (PathAndQuery::from_static("/a.B/Unary"), ProstCodec::<String, String>::default());
    tonic::client::Grpc::new(channel.clone()).unary(request, path, codec).await.map(drop)
}

async fn stream(channel: &Channel, request: Request<String>) -> Result<(), Status> {
    let (path, codec) = (PathAndQuery::from_static("/a.B/Stream"), ProstCodec::<String, String>::default());
    let mut client = tonic::client::Grpc::new(channel.clone());
    let mut messages = client.server_streaming(request, path, codec).await?.into_inner();
    while messages.message().await?.is_some() {}
    Ok(())
}
