//! What programs that were written for tonic's channel rely on: the behaviours that its integration tests hold it to, of a
//! client over this channel.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::error::Error as _;
use std::time::Duration;

use callboard::{Address, Backoff, CallError, Channel};
use callboard_echo::pb::echo_client::EchoClient;
use callboard_echo::pb::{EchoRequest, EchoResponse};
use callboard_echo::{EchoServer, client};
use callboard_raw::{Peer, code};
use common::scripted::Scripted;
use common::{Stage, echo, in_time, quick, request, slow, until, within};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Request, Response, Status};
use tower::ServiceBuilder;

/// A channel to a server whose unary calls a function answers, and what keeps that.
async fn scripted<F>(script: F) -> (Channel, impl Sized)
where
    F: Fn(Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> + Send + Sync + 'static,
{
    let (stage, server) = (Stage::new(), Scripted::start(script).await);
    let registration = stage.sign_in("a", server.address.try_into().unwrap(), 1).await;
    (stage.channel(stage.builder(), 1).await, (server, registration))
}

/// A channel to a server that answers each call by hand, and what keeps that.
async fn by_hand(answer: impl Fn(&Peer, u32) + Clone + Send + Sync + 'static) -> (Channel, impl Sized) {
    let stage = Stage::new();
    let script = move |mut peer: Peer| {
        let answer = answer.clone();
        async move {
            peer.settings(&[]);
            while let Some(request) = peer.request().await {
                answer(&peer, request.stream);
            }
        }
    };
    let server = stage.raw("a", script).await;
    (stage.channel(stage.builder(), 1).await, server)
}

async fn streamed(channel: &Channel) -> Result<tonic::Streaming<EchoResponse>, Status> {
    Ok(in_time(echo(channel).server_streaming(request())).await?.into_inner())
}

#[tokio::test]
async fn a_status_has_its_details_and_metadata() {
    let (channel, _server) = scripted(|_| {
        let mut metadata = MetadataMap::new();
        metadata.insert("x-host", "127.0.0.1".parse().unwrap());
        metadata.insert_bin("x-name-bin", MetadataValue::from_bytes(b"localhost"));
        let details = b"\x01details".as_slice().into();
        Err(Status::with_details_and_metadata(Code::ResourceExhausted, "too many: ü", details, metadata))
    })
    .await;
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::ResourceExhausted, "too many: ü"));
    assert_eq!(status.details(), b"\x01details");
    assert_eq!(status.metadata().get("x-host").unwrap(), "127.0.0.1");
    assert_eq!(&status.metadata().get_bin("x-name-bin").unwrap().to_bytes().unwrap()[..], b"localhost");
}

#[tokio::test]
async fn a_stream_ends_once_after_its_status() {
    let (channel, _server) = by_hand(|peer, stream| {
        peer.head(stream);
        peer.message(stream, "one");
        peer.trailers(stream, "14");
    })
    .await;
    let mut answers = streamed(&channel).await.unwrap();
    assert_eq!(in_time(answers.message()).await.unwrap().unwrap().server, "one");
    assert_eq!(in_time(answers.message()).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(in_time(answers.message()).await.unwrap(), None);
}

#[tokio::test]
async fn an_answer_of_a_proxy_has_the_code_that_grpc_infers() {
    let (channel, _server) = by_hand(|peer, stream| peer.headers(stream, &[(":status", "502")], true)).await;
    // tonic says so at the first message, this channel at once.
    let status = streamed(&channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}

#[tokio::test]
async fn a_response_without_a_status_is_no_success() {
    let (channel, _server) = by_hand(|peer, stream| {
        peer.head(stream);
        peer.data(stream, &[], true);
    })
    .await;
    let mut answers = streamed(&channel).await.unwrap();
    let status = in_time(answers.message()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unknown, "{status}");

    // Reset by NO_ERROR, as some proxies do at their own timeout: gRPC says INTERNAL.
    let (channel, _server) = by_hand(|peer, stream| {
        peer.head(stream);
        peer.reset(stream, code::NO_ERROR);
    })
    .await;
    let reset = async {
        let mut answers = streamed(&channel).await?;
        in_time(answers.message()).await
    };
    let status = reset.await.unwrap_err();
    assert_eq!(status.code(), Code::Internal, "{status}");
}

#[tokio::test]
async fn what_a_connector_has_said_is_found_behind_the_status() {
    let stage = Stage::new();
    let _a = stage.sign_in("a", "127.0.0.1:1".parse().unwrap(), 1).await;
    let failing = tower::service_fn(|_: Address| async {
        Err::<tokio::net::TcpStream, _>(std::io::Error::new(std::io::ErrorKind::AddrInUse, "no more ports"))
    });
    let channel = stage.builder().connector(failing).build().unwrap();
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let error = CallError::of(&status).expect("no server has said it");
    let mut cause = error.source().expect("it says why");
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let io: &std::io::Error = cause.downcast_ref().expect("down to the connector");
    assert_eq!(io.kind(), std::io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn a_call_to_a_server_that_is_gone_is_unavailable_and_one_to_a_server_that_came_is_answered() {
    let stage = Stage::new();
    let (server, _a) = stage.server("a").await;
    let address = server.address();
    let channel = stage.channel(stage.builder().backoff(quick()), 1).await;
    in_time(echo(&channel).unary(request())).await.unwrap();
    in_time(server.kill()).await;
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let _server = EchoServer::start_at("a", address).await.unwrap();
    until("it is there again", || channel.state() == callboard::ConnectivityState::Ready).await;
    in_time(echo(&channel).unary(request())).await.unwrap();
}

#[tokio::test]
async fn a_deadline_in_the_metadata_counts_and_so_does_the_servers_own() {
    let stage = Stage::new();
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let server = EchoServer::start_with("a", any, |server| server.timeout(Duration::from_millis(100))).await.unwrap();
    let _a = stage.sign_in("a", server.address().try_into().unwrap(), 1).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let status = in_time(echo(&channel).unary(within(Duration::from_secs(36_000), slow(60_000)))).await.unwrap_err();
    assert!(CallError::of(&status).is_none(), "the server has ended it: {status}");

    let mut asked = Request::new(slow(60_000));
    asked.metadata_mut().insert("grpc-timeout", "20m".parse().unwrap());
    let status = in_time(echo(&channel).unary(asked)).await.unwrap_err();
    // tonic's channel says CANCELLED; gRPC says this.
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
}

#[tokio::test]
async fn the_origin_of_a_client_comes_before_the_channels_authority() {
    let authority = |request: &Request<EchoRequest>| request.extensions().get::<Seen>().map(|Seen(host)| host.clone());
    #[derive(Clone)]
    struct Seen(String);
    let listener = tokio::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let stage = Stage::new();
    let _a = stage.sign_in("a", listener.local_addr().unwrap().try_into().unwrap(), 1).await;
    let service = callboard_echo::pb::echo_server::EchoServer::new(common::scripted::Script(
        move |request: Request<EchoRequest>| {
            let server = authority(&request).unwrap_or_default();
            Ok(Response::new(EchoResponse { server, payload: Vec::new() }))
        },
    ));
    let note = tower::util::MapRequestLayer::new(|mut request: http::Request<tonic::body::Body>| {
        let host = request.uri().host().unwrap_or_default().to_owned();
        request.extensions_mut().insert(Seen(host));
        request
    });
    let connections = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let serving = tonic::transport::Server::builder().layer(note).add_service(service).serve_with_incoming(connections);
    let task = tokio::spawn(serving);
    let channel = stage.channel(stage.builder().authority("ours.example"), 1).await;
    let answer = in_time(EchoClient::new(channel.clone()).unary(request())).await.unwrap();
    assert_eq!(answer.into_inner().server, "ours.example");
    let origin = "https://docs.example".parse().unwrap();
    let answer = in_time(EchoClient::with_origin(channel, origin).unary(request())).await.unwrap();
    assert_eq!(answer.into_inner().server, "docs.example");
    task.abort();
}

#[tokio::test]
async fn layers_and_interceptors_stand_around_it() {
    let (channel, _server) = scripted(|request| {
        let value = |name| request.metadata().get(name).map_or("", |value| value.to_str().unwrap());
        Ok(Response::new(EchoResponse {
            server: format!("{}{}", value("x-layer"), value("x-interceptor")),
            payload: Vec::new(),
        }))
    })
    .await;
    let layered = ServiceBuilder::new()
        .concurrency_limit(10)
        .map_request(|mut request: http::Request<tonic::body::Body>| {
            request.headers_mut().insert("x-layer", http::HeaderValue::from_static("a"));
            request
        })
        .service(channel);
    let intercept = |mut request: Request<()>| {
        assert!(request.extensions().get::<tonic::GrpcMethod<'_>>().is_some_and(|method| method.method() == "Unary"));
        request.metadata_mut().insert("x-interceptor", "b".parse().unwrap());
        Ok(request)
    };
    let mut client = EchoClient::with_interceptor(layered, intercept);
    assert_eq!(in_time(client.unary(request())).await.unwrap().into_inner().server, "ab");
}

/// A list of addresses that is fixed, as tonic's `balance_list` is given one.
#[tokio::test]
async fn a_fixed_list_of_addresses_is_a_board_that_nobody_else_signs_in_on() {
    let (a, b) = (EchoServer::start("a").await.unwrap(), EchoServer::start("b").await.unwrap());
    let stage = Stage::new();
    let _a = stage.sign_in("a", a.address().try_into().unwrap(), 1).await;
    let _b = stage.sign_in("b", b.address().try_into().unwrap(), 1).await;
    let channel = stage.channel(stage.builder().backoff(Backoff::CONNECTION), 2).await;
    for _ in 0..10 {
        in_time(client(channel.clone()).unary(request())).await.unwrap();
    }
    assert_eq!((a.calls(), b.calls()), (5, 5));
}
