//! What tonic's generated clients offer works as it does over tonic's own channel.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use callboard::{Channel, Registration};
use callboard_echo::pb::echo_client::EchoClient;
use callboard_echo::pb::echo_server::EchoServer;
use callboard_echo::pb::{EchoRequest, EchoResponse};
use callboard_raw::{Peer, serve};
use common::scripted::{Script, Scripted};
use common::{Stage, echo, in_time, request, slow};
use http::{HeaderMap, Uri};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{BinaryMetadataValue, MetadataValue};
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};
use tower::util::BoxCloneService;
use tower::{Service, ServiceBuilder, ServiceExt};

/// A request as it reached the server: where it was sent to, and its headers.
type Arrived = Arc<Mutex<Vec<(Uri, HeaderMap)>>>;

/// Answered by 64 MiB of nothing, which is 64 KiB when compressed.
const BOMB: &[u8] = b"bomb";

/// A server that notes the heads of its requests, and echoes with compression.
struct Noting {
    arrived: Arrived,
    address: SocketAddr,
    task: tokio::task::AbortHandle,
}

impl Noting {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let arrived = Arrived::default();
        let log = Arc::clone(&arrived);
        let note = tower::layer::layer_fn(move |inner| Note { inner, log: Arc::clone(&log) });
        let echo = |request: Request<EchoRequest>| {
            let payload = match request.into_inner().payload {
                payload if payload == BOMB => vec![0; 64 << 20],
                payload => payload,
            };
            Ok(Response::new(EchoResponse { payload, server: "a".to_owned() }))
        };
        let service = EchoServer::new(Script(echo))
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip);
        let connections = TcpListenerStream::new(listener);
        let serving = Server::builder().layer(note).serve_with_incoming(service, connections);
        Self { arrived, address, task: tokio::spawn(serving).abort_handle() }
    }

    /// The last one that arrived.
    fn last(&self) -> (Uri, HeaderMap) {
        self.arrived.lock().unwrap().last().unwrap().clone()
    }

    fn header(&self, name: &str) -> String {
        self.last().1[name].to_str().unwrap().to_owned()
    }
}

impl Drop for Noting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Notes the head of each request that passes.
#[derive(Clone)]
struct Note<S> {
    inner: S,
    log: Arrived,
}

impl<S, B> Service<http::Request<B>> for Note<S>
where
    S: Service<http::Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> S::Future {
        self.log.lock().unwrap().push((request.uri().clone(), request.headers().clone()));
        self.inner.call(request)
    }
}

async fn noting(stage: &Stage) -> (Noting, Registration) {
    let server = Noting::start().await;
    let registration = stage.sign_in("a", server.address.try_into().unwrap(), 1).await;
    (server, registration)
}

async fn scripted<F>(stage: &Stage, script: F) -> (Scripted, Registration)
where
    F: Fn(Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> + Send + Sync + 'static,
{
    let server = Scripted::start(script).await;
    let registration = stage.sign_in("a", server.address.try_into().unwrap(), 1).await;
    (server, registration)
}

/// A channel as it is by default.
async fn plain(stage: &Stage) -> Channel {
    stage.channel(stage.builder(), 1).await
}

fn answer(payload: Vec<u8>) -> Response<EchoResponse> {
    Response::new(EchoResponse { payload, server: "a".to_owned() })
}

#[tokio::test]
async fn messages_are_compressed_both_ways() {
    let stage = Stage::new();
    let server = Noting::start().await;
    let (between, passed) = counted(server.address).await;
    let _registration = stage.sign_in("a", between.try_into().unwrap(), 1).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let mut client = EchoClient::new(channel)
        .send_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Gzip);
    let payload = vec![7; 1 << 20];
    let large = EchoRequest { payload: payload.clone(), ..EchoRequest::default() };
    let response = in_time(client.unary(large)).await.unwrap();
    assert_eq!(response.metadata().get("grpc-encoding").unwrap(), "gzip");
    assert!(response.into_inner().payload == payload);
    assert_eq!(server.header("grpc-encoding"), "gzip");
    assert_eq!(server.header("grpc-accept-encoding"), "gzip,identity");
    drop(client);
    let (there, back) = in_time(passed).await.unwrap().unwrap();
    assert!(there < 100_000 && back < 100_000, "{there} and {back} bytes for messages of 1 MiB");
}

#[tokio::test]
async fn a_message_that_unfolds_beyond_the_limit_fails_its_call_and_is_not_unfolded() {
    let stage = Stage::new();
    let (server, _registration) = noting(&stage).await;
    let mut client = EchoClient::new(plain(&stage).await).accept_compressed(CompressionEncoding::Gzip);
    let bomb = EchoRequest { payload: BOMB.to_vec(), ..EchoRequest::default() };
    let status = in_time(client.unary(bomb)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("size limit, of 4194304 bytes, exceeded while decompressing"), "{status:?}");
    assert_eq!(server.header("grpc-accept-encoding"), "gzip,identity");
    in_time(client.unary(request())).await.unwrap();
}

/// Passes one connection on, and counts its bytes there and back until it ends.
async fn counted(target: SocketAddr) -> (SocketAddr, JoinHandle<std::io::Result<(u64, u64)>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let passing = async move {
        let (mut near, mut far) = (listener.accept().await?.0, TcpStream::connect(target).await?);
        tokio::io::copy_bidirectional(&mut near, &mut far).await
    };
    (address, tokio::spawn(passing))
}

#[tokio::test]
async fn an_encoding_that_the_client_does_not_accept_is_not_used() {
    let stage = Stage::new();
    let (server, _registration) = noting(&stage).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let response = in_time(EchoClient::new(channel).unary(request())).await.unwrap();
    assert!(response.metadata().get("grpc-encoding").is_none());
    assert!(!server.last().1.contains_key("grpc-accept-encoding"));
}

#[tokio::test]
async fn interceptors_add_metadata_and_refuse_calls() {
    let stage = Stage::new();
    let (server, _registration) = noting(&stage).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let mut calls = 0;
    let mut client = EchoClient::with_interceptor(channel, move |mut request: Request<()>| {
        calls += 1;
        if calls == 2 {
            return Err(Status::permission_denied("not a second time"));
        }
        request.metadata_mut().insert("authorization", MetadataValue::from_static("Bearer x"));
        request.set_timeout(Duration::from_secs(7));
        Ok(request)
    });
    in_time(client.unary(request())).await.unwrap();
    assert_eq!(server.header("authorization"), "Bearer x");
    assert!(server.last().1.contains_key("grpc-timeout"), "a deadline that an interceptor sets counts");
    let status = in_time(client.unary(request())).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "not a second time"));
    assert_eq!(server.arrived.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_an_interceptor_puts_into_the_extensions_counts() {
    let stage = Stage::new();
    let channel = stage.builder().build().unwrap();
    let mut client = EchoClient::with_interceptor(channel, |mut request: Request<()>| {
        request.extensions_mut().insert(callboard::WaitForReady(true));
        Ok(request)
    });
    let call = tokio::spawn(async move { client.unary(request()).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!call.is_finished(), "no instances are registered");
    let _server = stage.server("a").await;
    in_time(call).await.unwrap().unwrap();
}

#[tokio::test]
async fn the_authority_is_the_services_name_unless_another_one_is_set() {
    let stage = Stage::new();
    let (server, _registration) = noting(&stage).await;
    let by_default = stage.channel(stage.builder(), 1).await;
    in_time(echo(&by_default).unary(request())).await.unwrap();
    assert_eq!(server.last().0, "http://project.test/callboard.echo.v1.Echo/Unary");
    let set = stage.channel(stage.builder().authority("shop.internal:8443"), 1).await;
    in_time(echo(&set).unary(request())).await.unwrap();
    assert_eq!(server.last().0, "http://shop.internal:8443/callboard.echo.v1.Echo/Unary");
}

#[tokio::test]
async fn with_origin_sets_scheme_authority_and_the_beginning_of_the_path() {
    let stage = Stage::new();
    let (server, _registration) = noting(&stage).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let mut client = EchoClient::with_origin(channel, Uri::from_static("https://shop.internal:8443"));
    in_time(client.unary(request())).await.unwrap();
    assert_eq!(server.last().0, "https://shop.internal:8443/callboard.echo.v1.Echo/Unary");
    // The path goes to the server as it is; there it is nobody's.
    let channel = plain(&stage).await;
    let mut client = EchoClient::with_origin(channel, Uri::from_static("http://shop.internal/api"));
    let status = in_time(client.unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(server.last().0, "http://shop.internal/api/callboard.echo.v1.Echo/Unary");
}

#[tokio::test]
async fn the_user_agent_is_callboards_with_the_own_one_in_front() {
    let stage = Stage::new();
    let (server, _registration) = noting(&stage).await;
    let own = concat!("callboard/", env!("CARGO_PKG_VERSION"));
    in_time(echo(&plain(&stage).await).unary(request())).await.unwrap();
    assert_eq!(server.header("user-agent"), own);
    let named = stage.channel(stage.builder().user_agent("shop/2.1"), 1).await;
    in_time(echo(&named).unary(request())).await.unwrap();
    assert_eq!(server.header("user-agent"), format!("shop/2.1 {own}"));
}

#[tokio::test]
async fn a_request_has_the_headers_that_grpc_asks_for_and_no_others() {
    let stage = Stage::new();
    let (server, _registration) = noting(&stage).await;
    in_time(echo(&plain(&stage).await).unary(request())).await.unwrap();
    let (_, headers) = server.last();
    let mut names: Vec<_> = headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-type", "te", "user-agent"]);
    assert_eq!((server.header("content-type"), server.header("te")), ("application/grpc".into(), "trailers".into()));
}

#[tokio::test]
async fn metadata_of_both_kinds_goes_both_ways_in_headers_and_trailers() {
    let stage = Stage::new();
    let (_server, _registration) = scripted(&stage, |request| {
        let mut response = answer(Vec::new());
        for value in request.metadata().get_all("text") {
            response.metadata_mut().append("echo-text", value.clone());
        }
        let bytes = request.metadata().get_bin("bytes-bin").unwrap().clone();
        if request.get_ref().payload.is_empty() {
            let mut status = Status::failed_precondition("as asked");
            status.metadata_mut().insert_bin("echo-bin", bytes);
            status.metadata_mut().insert("echo-text", request.metadata().get("text").unwrap().clone());
            return Err(status);
        }
        response.metadata_mut().insert_bin("echo-bin", bytes);
        Ok(response)
    })
    .await;
    let channel = plain(&stage).await;
    let bytes: Vec<u8> = (0..=255).collect();
    let with_metadata = |message| {
        let mut request = Request::new(message);
        request.metadata_mut().append("text", "one".parse().unwrap());
        request.metadata_mut().append("text", "two, three".parse().unwrap());
        request.metadata_mut().insert_bin("bytes-bin", BinaryMetadataValue::from_bytes(&bytes));
        request
    };
    let response = in_time(echo(&channel).unary(with_metadata(request()))).await.unwrap();
    let texts: Vec<_> = response.metadata().get_all("echo-text").iter().collect();
    assert_eq!(texts, ["one", "two, three"]);
    assert_eq!(response.metadata().get_bin("echo-bin").unwrap().to_bytes().unwrap(), bytes);
    // And in a response of trailers alone.
    let status = in_time(echo(&channel).unary(with_metadata(EchoRequest::default()))).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "as asked"));
    assert_eq!(status.metadata().get("echo-text").unwrap(), "one");
    assert_eq!(status.metadata().get_bin("echo-bin").unwrap().to_bytes().unwrap(), bytes);
}

#[tokio::test]
async fn details_of_a_status_arrive() {
    let stage = Stage::new();
    let (_server, _registration) = scripted(&stage, |_| {
        Err(Status::with_details(Code::ResourceExhausted, "too much: 100 %, \u{fc}ber", vec![0, 255, 7].into()))
    })
    .await;
    let status = in_time(echo(&plain(&stage).await).unary(request())).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "too much: 100 %, \u{fc}ber"));
    assert_eq!(status.details(), [0, 255, 7]);
}

#[tokio::test]
async fn metadata_near_the_limit_is_taken_and_beyond_it_the_call_alone_fails() {
    // What else is in a block of headers, with the 32 bytes that HTTP/2 counts for each field, is well below 1 KiB.
    const LIMIT: usize = 64 << 10;
    let stage = Stage::new();
    let script = |mut peer: Peer| async move {
        peer.settings(&[]);
        while let Some(request) = peer.request().await {
            // The request says how much it wants: echo's field 2, delay_ms, as a varint behind the payload's 6 bytes.
            let wanted = varint(&request.body[5..]);
            let large = "x".repeat(wanted);
            peer.headers(
                request.stream,
                &[(":status", "200"), ("content-type", "application/grpc"), ("large", &large)],
                false,
            );
            peer.message(request.stream, "a");
            peer.trailers(request.stream, "0");
        }
    };
    let (server, _registration) = stage.raw("a", script).await;
    let channel = stage.channel(stage.builder().http2_max_header_list_size(LIMIT as u32), 1).await;
    let asking = |size: usize| EchoRequest { delay_ms: size as u32, ..EchoRequest::default() };
    for size in [1 << 10, 60 << 10, LIMIT - (1 << 10)] {
        let response = in_time(echo(&channel).unary(asking(size))).await.unwrap();
        assert_eq!(response.metadata().get("large").unwrap().len(), size);
    }
    for size in [LIMIT, 80 << 10, 100 << 10, 8 * LIMIT, 100 * LIMIT] {
        let status = in_time(echo(&channel).unary(asking(size))).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal, "{size}: {status:?}");
        for part in ["project/test", &server.address().to_string()] {
            assert!(status.message().contains(part), "{size}: {part} in {status:?}");
        }
        in_time(echo(&channel).unary(asking(10))).await.unwrap();
    }
    assert_eq!(server.stats().accepted, 1, "the connection is none the worse for it");
}

/// The value of field 2 of a message that has nothing else.
fn varint(message: &[u8]) -> usize {
    assert_eq!(message[0], 0x10);
    let groups = message[1..].iter().enumerate();
    groups.map(|(index, byte)| usize::from(byte & 0x7f) << (7 * index)).sum()
}

#[tokio::test]
async fn request_metadata_of_many_kilobytes_is_sent() {
    let stage = Stage::new();
    let (_server, _registration) =
        scripted(&stage, |request| Ok(answer(request.metadata().get("large").unwrap().len().to_be_bytes().into())))
            .await;
    let size = 15 << 10;
    let mut large = Request::new(request());
    large.metadata_mut().insert("large", "x".repeat(size).parse().unwrap());
    let response = in_time(echo(&plain(&stage).await).unary(large)).await.unwrap();
    assert_eq!(response.into_inner().payload, size.to_be_bytes());
}

#[tokio::test]
async fn request_metadata_beyond_what_the_server_takes_fails_its_own_call_alone() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let channel = plain(&stage).await;
    let mut large = Request::new(request());
    // hyper's server takes 16 KiB in all by default, and says so.
    large.metadata_mut().insert("large", "x".repeat(30 << 10).parse().unwrap());
    let mut client = echo(&channel);
    let bystander = tokio::spawn(async move { client.unary(slow(300)).await });
    in_time(server.until(|server| server.in_flight() == 1)).await;
    let status = in_time(echo(&channel).unary(large)).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal, "{status:?}");
    assert!(status.message().contains("at most 16384 (SETTINGS_MAX_HEADER_LIST_SIZE); it was not sent"), "{status:?}");
    in_time(bystander).await.unwrap().unwrap();
    in_time(echo(&channel).unary(request())).await.unwrap();
    assert_eq!((server.accepted(), server.calls()), (1, 2));
}

#[tokio::test]
async fn messages_above_the_clients_limits_are_refused_and_said_to_be() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let channel = plain(&stage).await;
    let large = || EchoRequest { payload: vec![0; 2_000], ..EchoRequest::default() };
    let mut small_in = EchoClient::new(channel.clone()).max_decoding_message_size(1_000);
    let status = in_time(small_in.unary(large())).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert!(status.message().contains("1000"), "{status:?}");
    let mut small_out = EchoClient::new(channel.clone()).max_encoding_message_size(1_000);
    let status = in_time(small_out.unary(large())).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    in_time(small_in.unary(request())).await.unwrap();
    in_time(small_out.unary(request())).await.unwrap();
    in_time(server.until(|server| server.in_flight() == 0)).await;
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_stack_of_layers_around_the_channel_is_accepted_and_works() {
    let stage = Stage::new();
    let (server, _registration) = stage.server("a").await;
    let channel = plain(&stage).await;
    let mapped = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&mapped);
    let stack = ServiceBuilder::new()
        .map_request(move |mut request: http::Request<tonic::body::Body>| {
            counter.fetch_add(1, Ordering::SeqCst);
            request.headers_mut().insert("layered", http::HeaderValue::from_static("yes"));
            request
        })
        .timeout(Duration::from_millis(300))
        .concurrency_limit(2)
        .service(channel);
    let client = EchoClient::new(stack);
    let calls: Vec<_> = (0..6)
        .map(|_| {
            let mut client = client.clone();
            tokio::spawn(async move { client.unary(slow(30)).await })
        })
        .collect();
    let most = async {
        let mut most = 0;
        while server.calls() < 6 || server.in_flight() > 0 {
            most = most.max(server.in_flight());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        most
    };
    assert_eq!(in_time(most).await, 2, "the limit is kept, and used");
    for call in calls {
        in_time(call).await.unwrap().unwrap();
    }
    assert_eq!(mapped.load(Ordering::SeqCst), 6);
    let status = in_time(client.clone().unary(slow(15_000))).await.unwrap_err();
    assert!(status.message().contains("timed out") || status.code() == Code::Cancelled, "{status:?}");
    // The call that the layer has given up is given up on the server, too.
    in_time(server.until(|server| server.in_flight() == 0)).await;
}

#[tokio::test]
async fn a_channel_may_be_boxed() {
    let stage = Stage::new();
    let _server = stage.raw("a", |peer| serve("a", peer)).await;
    let channel = plain(&stage).await;
    type Boxed = BoxCloneService<http::Request<tonic::body::Body>, http::Response<tonic::body::Body>, Status>;
    let boxed: Boxed = channel.boxed_clone();
    let mut client = EchoClient::new(boxed);
    assert_eq!(in_time(client.unary(request())).await.unwrap().into_inner().server, "a");
    let many = EchoRequest { repeat: 1, ..request() };
    let mut answers = in_time(client.server_streaming(many)).await.unwrap().into_inner();
    assert_eq!(in_time(answers.message()).await.unwrap().unwrap().server, "a");
    assert!(in_time(answers.message()).await.unwrap().is_none());
}
