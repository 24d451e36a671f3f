//! What a server's calls and connections do to it: streams without an end, uploads that nobody reads, Unix sockets.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use callboard::{Channel, ConnectivityState, ErrorKind, Incoming, Serve, Serving, Shutdown};
use callboard_echo::pb::echo_server::{Echo, EchoServer};
use callboard_echo::pb::{EchoRequest, EchoResponse};
use common::{Stage, echo, endpoint, in_time, request, slow, until, within};
use futures_util::{Stream, stream};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus as HealthStatus;
use tonic_health::pb::health_client::HealthClient;

type Answers = Pin<Box<dyn Stream<Item = tonic::Result<EchoResponse>> + Send>>;

/// Answers at once, reads no upload, and goes on with its streams until the server shuts down.
struct Handlers(Shutdown);

#[tonic::async_trait]
impl Echo for Handlers {
    async fn unary(&self, request: Request<EchoRequest>) -> tonic::Result<Response<EchoResponse>> {
        let payload = request.into_inner().payload;
        Ok(Response::new(EchoResponse { payload, ..EchoResponse::default() }))
    }

    type ServerStreamingStream = Answers;

    async fn server_streaming(&self, request: Request<EchoRequest>) -> tonic::Result<Response<Answers>> {
        let first = Some(Duration::from_millis(request.into_inner().delay_ms.into()));
        Ok(Response::new(Box::pin(stream::unfold((first, self.0.clone()), async |(first, mut shutdown)| {
            let next = match first {
                Some(delay) => {
                    sleep(delay).await;
                    Ok(EchoResponse::default())
                }
                None => {
                    (&mut shutdown).await;
                    Err(Status::unavailable("the handler has heard of it"))
                }
            };
            Some((next, (None, shutdown)))
        }))))
    }

    async fn client_streaming(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> tonic::Result<Response<EchoResponse>> {
        let _unread = request.into_inner();
        pending().await
    }

    type BidirectionalStream = Answers;

    async fn bidirectional(&self, _: Request<Streaming<EchoRequest>>) -> tonic::Result<Response<Answers>> {
        Err(Status::unimplemented("not here"))
    }
}

/// A server until it is told to stop, and how it is told.
fn serve(stage: &Stage) -> (Serve, oneshot::Sender<()>) {
    let (stop, stopped) = oneshot::channel();
    let serve = Serve::new(Arc::new(stage.board.clone()), stage.service.clone());
    (serve.id("a").signals(false).deregister_delay(Duration::ZERO).shutdown_signal(async { drop(stopped.await) }), stop)
}

/// The server as it is documented, with its health.
async fn documented(stage: &Stage) -> (Serving, oneshot::Sender<()>) {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status("", ServingStatus::Serving).await;
    let (serve, stop) = serve(stage);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let serving = serve
        .not_serving(async move { health.set_service_status("", ServingStatus::NotServing).await })
        .start(listener, |listener, shutdown| {
            Server::builder()
                .initial_stream_window_size(256 * 1024)
                .initial_connection_window_size(64 * 1024 * 1024)
                .add_service(shutdown.end_streams(health_service))
                .add_service(EchoServer::new(Handlers(shutdown.clone())))
                .serve_with_incoming_shutdown(Incoming::new(listener), shutdown)
        })
        .unwrap();
    (serving, stop)
}

async fn watched(channel: &Channel) -> Streaming<tonic_health::pb::HealthCheckResponse> {
    HealthClient::new(channel.clone()).watch(HealthCheckRequest::default()).await.unwrap().into_inner()
}

/// The first message follows the headers, which have been sent alone. Where the system holds small messages back until what
/// was sent before is acknowledged, that takes it 40 ms.
#[tokio::test]
async fn the_first_message_of_a_stream_comes_at_once() {
    let stage = Stage::new();
    let (_serving, _stop) = documented(&stage).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let mut client = echo(&channel);
    let mut took = Vec::new();
    for _ in 0..30 {
        let begun = Instant::now();
        let mut answers = in_time(client.server_streaming(slow(2))).await.unwrap().into_inner();
        in_time(answers.message()).await.unwrap().expect("the first answer");
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    // Of many, so that a machine that is busy for a moment makes no difference.
    println!("from {:?} to {:?}", took[0], took[29]);
    assert!(took[15] < Duration::from_millis(20), "{took:?}");
}

#[tokio::test]
async fn streams_without_an_end_do_not_keep_a_server_that_shuts_down() {
    let stage = Stage::new();
    let (serving, stop) = documented(&stage).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let mut health = watched(&channel).await;
    let mut said = async || in_time(health.message()).await.map(|answer| answer.unwrap().status());
    assert_eq!(said().await.unwrap(), HealthStatus::Serving);
    let mut answers = echo(&channel).server_streaming(request()).await.unwrap().into_inner();
    in_time(answers.message()).await.unwrap().expect("the first answer");

    let begun = Instant::now();
    stop.send(()).unwrap();
    let asked = async {
        // First what health says, then its end.
        assert_eq!(said().await.unwrap(), HealthStatus::NotServing);
        let end = said().await.unwrap_err();
        assert_eq!((end.code(), end.message()), (Code::Unavailable, "the server is shutting down"));
        let end = in_time(answers.message()).await.unwrap_err();
        assert_eq!((end.code(), end.message()), (Code::Unavailable, "the handler has heard of it"));
    };
    let (ended, ()) = in_time(async { tokio::join!(serving.ended(), asked) }).await;
    ended.unwrap();
    println!("ended {:?} after it was asked to", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_a_tonic_router_does_not_finish_ends_with_its_runtime() {
    let stage = Stage::new();
    let (serve, stop) = serve(&stage);
    let server = std::thread::spawn(move || {
        // It ends with this function, as that of a program does with `main`.
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (_health, service) = tonic_health::server::health_reporter();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let server = serve.drain_timeout(Duration::from_millis(200)).run(listener, |listener, shutdown| {
                let server = Server::builder().add_service(service);
                server.serve_with_incoming_shutdown(Incoming::new(listener), shutdown)
            });
            server.await
        })
    });
    let channel = stage.channel(stage.builder(), 1).await;
    let mut health = watched(&channel).await;
    in_time(health.message()).await.unwrap().expect("it serves");
    stop.send(()).unwrap();
    // Nobody has told this watch to end, so that it is a call in flight.
    assert_eq!(in_time(health.message()).await.unwrap_err().code(), Code::Unavailable);
    let error = tokio::task::spawn_blocking(|| server.join().unwrap()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

#[tokio::test]
async fn uploads_that_nobody_reads_stop_no_other_call() {
    let stage = Stage::new();
    let (_serving, _stop) = documented(&stage).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let sent = Arc::new(AtomicUsize::new(0));
    let part = EchoRequest { payload: vec![0; 64 * 1024], ..EchoRequest::default() };
    let uploads: Vec<_> = (0..8)
        .map(|_| {
            let (mut client, sent, part) = (echo(&channel), Arc::clone(&sent), part.clone());
            let parts = stream::repeat_with(move || {
                sent.fetch_add(1, Ordering::SeqCst);
                part.clone()
            });
            tokio::spawn(async move { client.client_streaming(parts).await })
        })
        .collect();
    until("the uploads have filled tonic's window of a connection", || sent.load(Ordering::SeqCst) > 16).await;
    for _ in 0..20 {
        let call = within(Duration::from_secs(3), EchoRequest { payload: vec![0; 1024], ..request() });
        echo(&channel).unary(call).await.unwrap();
    }
    assert!(uploads.iter().all(|upload| !upload.is_finished()), "they wait for their handlers");
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_is_served_and_advertised() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("server.sock");
    let mut listeners = vec![(tokio::net::UnixListener::bind(&path).unwrap(), format!("unix:{}", path.display()))];
    #[cfg(target_os = "linux")]
    {
        let name = format!("callboard-serving-{}", std::process::id());
        let listener = tokio::net::UnixListener::bind(format!("\0{name}")).unwrap();
        listeners.push((listener, format!("unix-abstract:{name}")));
    }
    for (listener, address) in listeners {
        let stage = Stage::new();
        let (serve, stop) = serve(&stage);
        let serving = serve
            .start(listener, |listener, shutdown| {
                let server = Server::builder().add_service(EchoServer::new(Handlers(shutdown.clone())));
                server.serve_with_incoming_shutdown(Incoming::new(listener), shutdown)
            })
            .unwrap();
        assert_eq!(serving.instance().expect("it is bound there").address().to_string(), address);
        let channel = stage.channel(stage.builder(), 1).await;
        in_time(echo(&channel).unary(request())).await.unwrap();
        assert_eq!(endpoint(&channel, "a").endpoint.state(), ConnectivityState::Ready);
        stop.send(()).unwrap();
        in_time(serving.ended()).await.unwrap();
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_without_a_name_is_not_served() {
    let stage = Stage::new();
    let unnamed = std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(
        std::os::unix::net::UnixStream::pair().unwrap().0,
    ));
    unnamed.set_nonblocking(true).unwrap();
    let listener = tokio::net::UnixListener::from_std(unnamed).unwrap();
    let (serve, _stop) = serve(&stage);
    let error = serve
        .start(listener, |_, shutdown| async {
            shutdown.await;
            std::io::Result::Ok(())
        })
        .unwrap_err();
    assert!(error.chain().contains("cannot be dialled"), "{error:?}");
}

#[tokio::test]
async fn small_messages_are_sent_at_once_on_what_is_accepted() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let _client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let accepted = in_time(futures_util::StreamExt::next(&mut Incoming::new(listener))).await.unwrap().unwrap();
    assert!(accepted.nodelay().unwrap());
}
