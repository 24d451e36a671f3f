//! An agent that answers by a script.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they share")]

use std::collections::VecDeque;
use std::future::ready;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use callboard_core::{Result, ServiceName, Snapshot, Snapshots};
use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

pub(crate) const SOON: Duration = Duration::from_secs(20);

/// What is answered: a status, the headers, the body. None answers nothing and leaves the connection open.
pub(crate) type Reply = Option<(u16, String, String)>;
type Script = Arc<dyn Fn(&str) -> BoxFuture<'static, Reply> + Send + Sync>;

/// An agent that answers each request by its first line.
pub(crate) async fn agent(script: impl Fn(&str) -> Reply + Send + Sync + 'static) -> SocketAddr {
    agent_in_time(move |line| ready(script(line)).boxed()).await
}

/// An agent that answers each request by its first line, when it is time to.
pub(crate) async fn agent_in_time(
    script: impl Fn(&str) -> BoxFuture<'static, Reply> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, script): (_, Script) = (listener.local_addr().unwrap(), Arc::new(script));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(converse(socket, Arc::clone(&script)));
        }
    });
    address
}

async fn converse(mut socket: TcpStream, script: Script) -> std::io::Result<()> {
    let mut heard = Vec::new();
    loop {
        while !heard.windows(4).any(|end| end == b"\r\n\r\n") {
            if socket.read_buf(&mut heard).await? == 0 {
                return Ok(());
            }
        }
        let text = String::from_utf8_lossy(&heard).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let missing = length.unwrap_or(0usize).saturating_sub(body.len());
        socket.read_exact(&mut vec![0; missing]).await?;
        heard.clear();
        let Some((status, headers, body)) = script(head.lines().next().unwrap()).await else {
            std::future::pending::<()>().await;
            continue;
        };
        let length = body.len();
        socket
            .write_all(format!("HTTP/1.1 {status} Said\r\nContent-Length: {length}\r\n{headers}\r\n{body}").as_bytes())
            .await?;
    }
}

pub(crate) fn reply(status: u16, index: u64, body: impl Into<String>) -> Reply {
    Some((status, format!("X-Consul-Index: {index}\r\n"), body.into()))
}

/// A list of one entry of this port.
pub(crate) fn listing(port: u16) -> String {
    format!(
        r#"[{{"Node":{{"Node":"n","Address":"127.0.0.1"}},"Service":{{"ID":"a","Service":"project-test","Port":{port}}}}}]"#
    )
}

pub(crate) fn project() -> ServiceName {
    "project-test".parse().unwrap()
}

pub(crate) async fn next(watch: &mut Snapshots) -> Result<Snapshot> {
    timeout(SOON, watch.next()).await.expect("something is said").expect("it has not ended")
}

/// Replies one after the other, and then none, with the paths that were asked for.
pub(crate) struct Sequence {
    replies: Mutex<VecDeque<Reply>>,
    queries: Mutex<Vec<String>>,
}

impl Sequence {
    pub(crate) fn new(replies: impl IntoIterator<Item = Reply>) -> Arc<Self> {
        Arc::new(Self { replies: Mutex::new(replies.into_iter().collect()), queries: Mutex::default() })
    }

    /// The next reply to the request with this first line.
    pub(crate) fn next(&self, line: &str) -> Reply {
        self.queries.lock().unwrap().push(line.split(' ').nth(1).unwrap().to_owned());
        self.replies.lock().unwrap().pop_front().flatten()
    }

    pub(crate) fn queries(&self) -> Vec<String> {
        self.queries.lock().unwrap().clone()
    }
}

/// Queries without how long each is to wait, which is as long as its watch is old, from a second on.
pub(crate) fn without_wait(queries: &[String]) -> Vec<String> {
    let plain = |query: &String| match query.split_once("&wait=") {
        Some((plain, wait)) => {
            let millis: u64 = wait.strip_suffix("ms").unwrap().parse().unwrap();
            assert!((1_000..=30_000).contains(&millis), "{query}");
            plain.to_owned()
        }
        None => query.clone(),
    };
    queries.iter().map(plain).collect()
}
