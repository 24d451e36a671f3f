//! Questions to servers, in plain text over TCP: nothing between a test and what a server says.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one question may take. A server that does not answer within this time is not well.
const LIMIT: Duration = Duration::from_secs(10);

/// What an HTTP server has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status, such as 200.
    pub status: u16,
    /// The headers, a line each.
    pub headers: String,
    /// The body.
    pub body: String,
}

/// Makes one HTTP request on a connection of its own. `headers` are whole lines without their ends, such as
/// `X-Consul-Token: secret`.
///
/// # Errors
/// What the network says, `TimedOut` after 10 s, and `InvalidData` for an answer that is not HTTP.
pub async fn http(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[&str],
    body: impl AsRef<[u8]>,
) -> io::Result<Answer> {
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let body = body.as_ref();
    // The older protocol has neither chunks nor connections that stay open.
    let head =
        format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    let text = exchange(address, &[head.as_bytes(), body].concat()).await?;
    let answer = text.split_once("\r\n\r\n").and_then(|(head, body)| {
        let (first, headers) = head.split_once("\r\n")?;
        let status = first.split(' ').nth(1)?.parse().ok()?;
        Some(Answer { status, headers: headers.to_owned(), body: body.to_owned() })
    });
    answer.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, format!("{address} does not answer in HTTP: {text:?}")))
}

/// Asks a ZooKeeper one of its four-letter words, such as `srvr`.
///
/// # Errors
/// What the network says, and `TimedOut` after 10 s.
pub async fn four_letters(address: SocketAddr, word: &str) -> io::Result<String> {
    exchange(address, word.as_bytes()).await
}

/// Asks whether somebody listens.
///
/// # Errors
/// What the network says if nobody does.
pub async fn listens(address: SocketAddr) -> io::Result<()> {
    timeout(LIMIT, TcpStream::connect(address)).await?.map(drop)
}

async fn exchange(address: SocketAddr, request: &[u8]) -> io::Result<String> {
    let exchange = async {
        let mut socket = TcpStream::connect(address).await?;
        socket.write_all(request).await?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    timeout(LIMIT, exchange).await?
}
