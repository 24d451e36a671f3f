//! One connection through a proxy.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::proxy::Mode;

/// How many pieces may be on their way in one direction.
const PIECES: usize = 256;

/// What was read, and when it is due.
type Piece = (Instant, Vec<u8>);

/// Connects to the target and passes everything on, in both directions, until both sides have closed.
pub(crate) async fn join(near: TcpStream, target: SocketAddr, mut modes: watch::Receiver<Mode>) {
    if !open(&mut modes).await {
        return;
    }
    // A server that is not there is one that closes.
    let Ok(far) = TcpStream::connect(target).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let (near_in, near_out) = near.into_split();
    let (far_in, far_out) = far.into_split();
    tokio::join!(pass(near_in, far_out, modes.clone()), pass(far_in, near_out, modes));
}

/// Waits until something may pass. False if the proxy has been dropped.
async fn open(modes: &mut watch::Receiver<Mode>) -> bool {
    modes.wait_for(|mode| *mode != Mode::BlackHole).await.is_ok()
}

/// Passes bytes on in one direction, until the one side closes or the other does not take them.
async fn pass(from: OwnedReadHalf, to: OwnedWriteHalf, modes: watch::Receiver<Mode>) {
    let (queue, pieces) = mpsc::channel(PIECES);
    tokio::join!(take(from, queue, modes.clone()), give(to, pieces, modes));
}

async fn take(mut from: OwnedReadHalf, queue: mpsc::Sender<Piece>, mut modes: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 16 << 10];
    while open(&mut modes).await {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            _ = modes.changed() => continue,
        };
        let piece = (Instant::now() + delay(*modes.borrow()), buffer[..read].to_vec());
        if read == 0 || queue.send(piece).await.is_err() {
            return;
        }
    }
}

async fn give(mut to: OwnedWriteHalf, mut pieces: mpsc::Receiver<Piece>, mut modes: watch::Receiver<Mode>) {
    while let Some((due, bytes)) = pieces.recv().await {
        sleep_until(due).await;
        if !open(&mut modes).await || to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

fn delay(mode: Mode) -> Duration {
    match mode {
        Mode::Delay(by) => by,
        Mode::Pass | Mode::Refuse | Mode::BlackHole => Duration::ZERO,
    }
}
