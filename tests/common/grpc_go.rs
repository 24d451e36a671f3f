//! Programs in Go from `tests/grpc-go`, and a proxy that records bytes.

#![allow(unreachable_pub, clippy::unwrap_used)]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::AbortHandle;

use crate::common::in_time;

/// A program that reads commands and prints answers, line by line. It ends when this is dropped.
pub struct Program {
    _child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Program {
    /// Builds a package of `tests/grpc-go` and starts it.
    ///
    /// # Panics
    /// If Go is not installed.
    pub async fn go(package: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(build(package));
        command.args(arguments);
        Self::start(command)
    }

    pub fn start(mut command: Command) -> Self {
        command.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let orders = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, orders, answers }
    }

    pub async fn order(&mut self, line: &str) {
        self.orders.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// The next line that it prints.
    pub async fn answer(&mut self) -> String {
        in_time(self.next_line()).await
    }

    async fn next_line(&mut self) -> String {
        self.answers.next_line().await.unwrap().expect("the program has not ended")
    }

    /// The first line of a program that may have to be built first.
    pub async fn first_answer(&mut self) -> String {
        let building = Duration::from_secs(900);
        tokio::time::timeout(building, self.next_line()).await.expect("it is built and started")
    }

    /// The rest of the next line, which begins with this word.
    pub async fn told(&mut self, word: &str) -> String {
        let line = self.answer().await;
        let (first, rest) = line.split_once(' ').unwrap_or((&line, ""));
        assert_eq!(first, word, "{line}");
        rest.to_owned()
    }
}

/// Builds a program, unless it is there and up to date.
pub fn build(package: &str) -> PathBuf {
    // One build at a time: two would write the same file.
    static BUILDING: Mutex<()> = Mutex::new(());
    let _building = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(package);
    let built = std::process::Command::new("go")
        .current_dir(folder())
        .args(["build", "-buildvcs=false", "-o"])
        .args([&program, Path::new(&format!("./{package}"))])
        .output();
    let built = built.unwrap_or_else(|error| panic!("this test needs Go: {error}"));
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    program
}

/// The folder of the programs, in whichever crate of the workspace this is compiled.
fn folder() -> PathBuf {
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|folder| folder.join("tests/grpc-go"));
    folders.into_iter().find(|folder| folder.is_dir()).expect("a crate of this workspace")
}

/// The bytes of one connection, by the side that has sent them.
#[derive(Clone, Default)]
pub struct Passed {
    pub by_client: Arc<Mutex<Vec<u8>>>,
    pub by_server: Arc<Mutex<Vec<u8>>>,
}

/// Forwards its first connection, and records every byte.
pub struct Tap {
    pub address: SocketAddr,
    pub passed: Passed,
    task: AbortHandle,
}

impl Tap {
    pub async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let passed = Passed::default();
        let Passed { by_client, by_server } = passed.clone();
        let task = tokio::spawn(async move {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(target).await.unwrap();
            let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
            tokio::join!(copy(from_near, to_far, &by_client), copy(from_far, to_near, &by_server));
        });
        Self { address, passed, task: task.abort_handle() }
    }

    /// Writes the bytes to the recordings, if requested: `tests/grpc-go/recorded/README.md`.
    pub fn keep_as(&self, name: &str) {
        if std::env::var_os("CALLBOARD_RECORD").is_some() {
            for (bytes, side) in [(&self.passed.by_client, "client"), (&self.passed.by_server, "server")] {
                std::fs::write(recording(name, side), &*bytes.lock().unwrap()).unwrap();
            }
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, noted: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        noted.lock().unwrap().extend_from_slice(&buffer[..length]);
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    // This fails only if the other side has gone, too.
    let _ = to.shutdown().await;
}

/// The path of a recording.
pub fn recording(name: &str, side: &str) -> PathBuf {
    folder().join(format!("recorded/{name}.{side}.bin"))
}

/// A frame of HTTP/2.
#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
    /// As it is on the wire.
    pub bytes: Vec<u8>,
}

/// The complete frames at the start of these bytes.
pub fn frames(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let Some(head) = bytes.get(..9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some(payload) = bytes.get(9..9 + length) else { break };
        let stream = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
        let (kind, payload) = (head[3], payload.to_vec());
        frames.push(Frame { kind, stream, payload, bytes: bytes[..9 + length].to_vec() });
        bytes = &bytes[9 + length..];
    }
    frames
}

/// The gRPC messages in the DATA of the first stream.
pub fn messages<M: prost::Message + Default>(frames: &[Frame]) -> Vec<M> {
    let data = frames.iter().filter(|frame| (frame.kind, frame.stream) == (0, 1)).flat_map(|frame| &frame.payload);
    let data: Vec<u8> = data.copied().collect();
    let (mut rest, mut messages) = (data.as_slice(), Vec::new());
    while let Some(prefix) = rest.get(..5) {
        let length = u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize;
        let Some(message) = rest.get(5..5 + length) else { break };
        messages.push(M::decode(message).unwrap());
        rest = &rest[5 + length..];
    }
    messages
}
