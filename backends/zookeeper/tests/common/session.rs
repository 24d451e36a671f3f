//! Ending another client's session, with its password, which ZooKeeper derives from the id of the session.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What every ZooKeeper mixes into passwords by default.
const SECRET: i64 = 0xB341_5C00;

/// Takes the session over and closes it. Its owner takes it back at once, and may be faster than the answer: only a
/// session that is refused afterwards is known to be closed.
pub(crate) async fn end(server: SocketAddr, id: i64) -> io::Result<()> {
    let mut ended = try_end(server, id).await;
    for _ in 0..20 {
        match ended {
            Err(error) if error.kind() != ErrorKind::InvalidData => ended = try_end(server, id).await,
            first => return first,
        }
        if ended.as_ref().is_err_and(|error| error.kind() == ErrorKind::InvalidData) {
            return Ok(());
        }
    }
    ended
}

async fn try_end(server: SocketAddr, id: i64) -> io::Result<()> {
    let mut socket = TcpStream::connect(server).await?;
    let mut connect = Vec::new();
    connect.extend(0_i32.to_be_bytes()); // the version of the protocol
    connect.extend(0_i64.to_be_bytes()); // the last transaction that was seen
    connect.extend(6000_i32.to_be_bytes()); // the length of the session
    connect.extend(id.to_be_bytes());
    connect.extend(16_i32.to_be_bytes()); // the length of what follows
    connect.extend(password(id));
    connect.push(0); // not for reading alone
    send(&mut socket, &connect).await?;
    let (number, close) = (1_i32, -11_i32);
    send(&mut socket, &[number.to_be_bytes(), close.to_be_bytes()].concat()).await?;
    let answer = receive(&mut socket).await?;
    if answer.get(8..16) != Some(&id.to_be_bytes()[..]) {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("session {id:#x} is refused: {answer:?}")));
    }
    receive(&mut socket).await.map(drop)
}

async fn send(socket: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    socket.write_i32(message.len() as i32).await?;
    socket.write_all(message).await
}

async fn receive(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut message = vec![0; socket.read_i32().await? as usize];
    socket.read_exact(&mut message).await.map(|_| message)
}

/// Sixteen bytes of Java's `Random`, whose seed is the number of the session.
fn password(id: i64) -> Vec<u8> {
    const FACTOR: u64 = 0x5_DEEC_E66D;
    const MASK: u64 = (1 << 48) - 1;
    let mut seed = ((id ^ SECRET) as u64 ^ FACTOR) & MASK;
    let mut next = || {
        seed = (seed.wrapping_mul(FACTOR) + 0xB) & MASK;
        ((seed >> 16) as u32).to_le_bytes()
    };
    (0..4).flat_map(|_| next()).collect()
}
