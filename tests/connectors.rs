//! Ways to a server: Unix sockets, names with several addresses, and connectors of the user's.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use callboard::{Address, ConnectivityState};
use callboard_echo::EchoServer;
use callboard_echo::pb::{EchoResponse, echo_server};
use common::scripted::Script;
use common::{Stage, echo, endpoint, in_time, quick, request, shares, until, until_ready};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{UnboundedReceiverStream, UnixListenerStream};
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Code, Response};

/// A directory that is gone at the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("callboard-{}-{:x}", std::process::id(), fastrand::u64(..)));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Serves the connections that come, as `id`.
fn serve<C>(
    id: &'static str,
    connections: impl futures_util::Stream<Item = io::Result<C>> + Send + 'static,
) -> JoinHandle<()>
where
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let answer = move |request: tonic::Request<callboard_echo::pb::EchoRequest>| {
        let payload = request.into_inner().payload;
        Ok(Response::new(EchoResponse { payload, server: id.to_owned() }))
    };
    let service = echo_server::EchoServer::new(Script(answer));
    tokio::spawn(async move {
        // It ends when the test does.
        let _ = Server::builder().serve_with_incoming(service, connections).await;
    })
}

#[tokio::test]
async fn servers_on_unix_sockets_and_on_tcp_share_the_calls() {
    let stage = Stage::new();
    let directory = Directory::new();
    let path = directory.0.join("a.sock");
    let listener = UnixListener::bind(&path).unwrap();
    serve("a", UnixListenerStream::new(listener));
    let address: Address = format!("unix:{}", path.display()).parse().unwrap();
    let _a = stage.sign_in("a", address.clone(), 1).await;
    let _b = stage.server("b").await;
    let channel = stage.channel(stage.builder(), 2).await;
    let shares = shares(&channel, 20).await;
    assert_eq!((shares["a"], shares["b"]), (10, 10));
    assert_eq!(endpoint(&channel, "a").endpoint.instance().address(), &address);
}

#[tokio::test]
async fn a_unix_socket_that_is_not_there_is_named_and_found_when_it_comes() {
    let stage = Stage::new();
    let directory = Directory::new();
    let path = directory.0.join("later.sock");
    let _registration = stage.sign_in("a", Address::unix(&path).unwrap(), 1).await;
    let channel = stage.builder().backoff(quick()).build().unwrap();
    until("it was dialled in vain", || channel.state() == ConnectivityState::TransientFailure).await;
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    for part in ["project/test", path.to_str().unwrap(), "No such file"] {
        assert!(status.message().contains(part), "{part:?} is not in {status:?}");
    }
    serve("a", UnixListenerStream::new(UnixListener::bind(&path).unwrap()));
    until_ready(&channel, 1).await;
    in_time(echo(&channel).unary(request())).await.unwrap();
}

/// One end of a pipe within the process.
struct Pipe(DuplexStream);

impl Connected for Pipe {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Pipe {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The pipes to a server within the process.
fn within_the_process(id: &'static str) -> mpsc::UnboundedSender<Pipe> {
    let (pipes, connections) = mpsc::unbounded_channel();
    let connections = UnboundedReceiverStream::new(connections);
    serve(id, futures_util::StreamExt::map(connections, Ok));
    pipes
}

#[tokio::test(start_paused = true)]
async fn a_connector_of_the_users_gives_pipes_within_the_process() {
    let stage = Stage::new();
    let (mut servers, mut registrations) = (HashMap::new(), Vec::new());
    for id in ["a", "b"] {
        let address = Address::tcp(id, 1).unwrap();
        servers.insert(address.clone(), within_the_process(id));
        registrations.push(stage.sign_in(id, address, 1).await);
    }
    let dialled = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&dialled);
    let connector = tower::service_fn(move |address: Address| {
        let (near, far) = tokio::io::duplex(4 << 10);
        log.lock().unwrap().push(address.to_string());
        let sent = servers[&address].send(Pipe(far));
        async move { sent.map(|()| near).map_err(|_| "the server has gone") }
    });
    let channel = stage.channel(stage.builder().connector(connector), 2).await;
    let shares = shares(&channel, 20).await;
    assert_eq!((shares["a"], shares["b"]), (10, 10));
    let mut dialled = dialled.lock().unwrap().clone();
    dialled.sort_unstable();
    assert_eq!(dialled, ["a:1", "b:1"], "the connector is told the address as it is on the board");
}

#[tokio::test]
async fn a_connector_that_fails_is_tried_with_backoff_and_its_error_is_told() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&attempts);
    let target = server.address();
    let connector = tower::service_fn(move |_: Address| {
        let attempt = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            if attempt < 3 {
                return Err(io::Error::other("the tunnel is closed"));
            }
            TcpStream::connect(target).await
        }
    });
    let backoff = callboard::Backoff::new(Duration::from_millis(200), Duration::from_millis(200), 1.0, 0.0).unwrap();
    let begun = Instant::now();
    let channel = stage.builder().connector(connector).backoff(backoff).build().unwrap();
    until("it has failed", || channel.state() == ConnectivityState::TransientFailure).await;
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    for part in ["project/test", &target.to_string(), "connector", "the tunnel is closed"] {
        assert!(status.message().contains(part), "{part:?} is not in {status:?}");
    }
    until_ready(&channel, 1).await;
    assert!(begun.elapsed() >= Duration::from_millis(590), "{:?}", begun.elapsed());
    in_time(echo(&channel).unary(request())).await.unwrap();
    assert_eq!(attempts.load(Ordering::SeqCst), 4);
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_hangs_is_bounded_by_the_connect_timeout() {
    let stage = Stage::new();
    let _registration = stage.sign_in("a", "10.1.2.3:4".parse().unwrap(), 1).await;
    let given_up = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&given_up);
    let connector = tower::service_fn(move |_: Address| {
        let hang = OnDrop(Arc::clone(&counted));
        async move {
            let _hang = hang;
            std::future::pending::<io::Result<DuplexStream>>().await
        }
    });
    let begun = tokio::time::Instant::now();
    let channel = stage.builder().connector(connector).connect_timeout(Duration::from_secs(3)).build().unwrap();
    let status = echo(&channel).unary(request()).await.unwrap_err();
    assert!((3_000..3_200).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert_eq!(status.code(), Code::Unavailable);
    for part in ["project/test", "10.1.2.3:4", "3s"] {
        assert!(status.message().contains(part), "{part:?} is not in {status:?}");
    }
    assert_eq!(given_up.load(Ordering::SeqCst), 1, "the attempt is dropped");
    drop(channel);
}

/// Counts how often it was dropped.
struct OnDrop(Arc<AtomicUsize>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A connector that has to be asked whether it is ready.
#[derive(Clone)]
struct Formal {
    ready_at: tokio::time::Instant,
    asked: bool,
    pipes: mpsc::UnboundedSender<Pipe>,
}

impl tower::Service<Address> for Formal {
    type Response = DuplexStream;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<DuplexStream>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ready_at > tokio::time::Instant::now() {
            let (waker, at) = (cx.waker().clone(), self.ready_at);
            tokio::spawn(async move {
                tokio::time::sleep_until(at).await;
                waker.wake();
            });
            return Poll::Pending;
        }
        self.asked = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Address) -> Self::Future {
        assert!(self.asked, "called although it had not said that it is ready");
        let (near, far) = tokio::io::duplex(4 << 10);
        assert!(self.pipes.send(Pipe(far)).is_ok());
        std::future::ready(Ok(near))
    }
}

#[tokio::test(start_paused = true)]
async fn a_connector_is_called_once_it_is_ready() {
    let stage = Stage::new();
    let _registration = stage.sign_in("a", "10.1.2.3:4".parse().unwrap(), 1).await;
    let begun = tokio::time::Instant::now();
    let ready_at = begun + Duration::from_secs(2);
    let connector = Formal { ready_at, asked: false, pipes: within_the_process("a") };
    let channel = stage.builder().connector(connector).build().unwrap();
    assert_eq!(echo(&channel).unary(request()).await.unwrap().into_inner().server, "a");
    assert!(begun.elapsed() >= Duration::from_secs(2));
}

/// The addresses of `localhost`, in the order in which they are tried.
async fn localhost(port: u16) -> Vec<SocketAddr> {
    tokio::net::lookup_host(("localhost", port)).await.unwrap().collect()
}

#[tokio::test]
async fn a_name_with_several_addresses_is_tried_until_one_answers() {
    // A server on each of the two in turn; on most systems `localhost` means both, and then one of the two servers is
    // found only because the other address is tried and refused first.
    let (v4, v6) = (SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0)));
    let mut found = 0;
    for at in [v4, v6] {
        let Ok(server) = EchoServer::start_at("a", at).await else { continue };
        let port = server.address().port();
        if !localhost(port).await.contains(&server.address()) {
            continue;
        }
        let stage = Stage::new();
        let _registration = stage.sign_in("a", Address::tcp("localhost", port).unwrap(), 1).await;
        let channel = stage.channel(stage.builder(), 1).await;
        in_time(echo(&channel).unary(request())).await.unwrap();
        found += 1;
    }
    assert!(found > 0, "`localhost` means no address that a server can be at");
}

#[tokio::test]
async fn a_name_of_which_no_address_answers_is_named_with_the_reason() {
    let stage = Stage::new();
    // Nobody listens there: the port is free again when it is dialled, or else somebody answers who is no server.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let _registration = stage.sign_in("a", Address::tcp("localhost", port).unwrap(), 1).await;
    let channel = stage.builder().build().unwrap();
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    for part in ["project/test", &format!("localhost:{port}"), "cannot connect", "refused"] {
        assert!(status.message().contains(part), "{part:?} is not in {status:?}");
    }
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_named() {
    let stage = Stage::new();
    // RFC 6761 promises that no name ends so.
    let _registration = stage.sign_in("a", "nobody.invalid:1".parse().unwrap(), 1).await;
    let channel = stage.builder().build().unwrap();
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    for part in ["project/test", "nobody.invalid:1", "cannot resolve the name"] {
        assert!(status.message().contains(part), "{part:?} is not in {status:?}");
    }
}
