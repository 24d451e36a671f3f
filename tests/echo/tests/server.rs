//! The echo server under tonic's own channel: what it answers, what it counts and how it ends.

use std::net::SocketAddr;
use std::time::Duration;

use callboard_echo::pb::echo_client::EchoClient;
use callboard_echo::pb::{EchoRequest, EchoResponse};
use callboard_echo::{EchoServer, client};
use futures_util::stream;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

async fn connect(server: &EchoServer) -> EchoClient<Channel> {
    let endpoint = Endpoint::new(format!("http://{}", server.address())).expect("a URI");
    client(endpoint.connect().await.expect("a connection"))
}

fn request(payload: impl Into<Vec<u8>>) -> EchoRequest {
    EchoRequest { payload: payload.into(), ..Default::default() }
}

/// A call that its server thinks about for a minute.
fn slow() -> EchoRequest {
    EchoRequest { delay_ms: 60_000, ..Default::default() }
}

async fn refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).await.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(10), future).await.expect("it ends in 10 s")
}

async fn collect(mut answers: tonic::Streaming<EchoResponse>) -> Vec<Vec<u8>> {
    let mut payloads = Vec::new();
    while let Some(answer) = answers.message().await.expect("an answer") {
        payloads.push(answer.payload);
    }
    payloads
}

#[tokio::test]
async fn each_kind_of_call_is_answered_and_counted() {
    let server = EchoServer::start("a").await.unwrap();
    let mut client = connect(&server).await;

    let answer = client.unary(request("one")).await.unwrap().into_inner();
    assert_eq!((answer.payload.as_slice(), answer.server.as_str()), (&b"one"[..], "a"));

    let repeated = EchoRequest { repeat: 3, ..request("x") };
    let answers = collect(client.server_streaming(repeated).await.unwrap().into_inner()).await;
    assert_eq!(answers, vec![b"x".to_vec(); 3]);

    let parts = stream::iter([request("ab"), request("cd")]);
    let answer = client.client_streaming(parts.clone()).await.unwrap().into_inner();
    assert_eq!(answer.payload, b"abcd");

    let answers = collect(client.bidirectional(parts).await.unwrap().into_inner()).await;
    assert_eq!(answers, [b"ab".to_vec(), b"cd".to_vec()]);

    within(server.until(|server| server.in_flight() == 0)).await;
    assert_eq!((server.calls(), server.connections(), server.accepted()), (4, 1, 1));
}

#[tokio::test]
async fn messages_of_four_mebibytes_go_both_ways() {
    let server = EchoServer::start("a").await.unwrap();
    let payload = vec![7; 4 * 1024 * 1024];
    let answer = connect(&server).await.unary(request(payload.clone())).await.unwrap().into_inner();
    assert!(answer.payload == payload);
}

#[tokio::test]
async fn a_connection_is_counted_while_it_is_open() {
    let server = EchoServer::start("a").await.unwrap();
    let first = connect(&server).await;
    let second = connect(&server).await;
    within(server.until(|server| server.connections() == 2)).await;
    drop((first, second));
    within(server.until(|server| server.connections() == 0)).await;
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn a_call_that_its_client_gives_up_is_in_flight_no_longer() {
    let server = EchoServer::start("a").await.unwrap();
    let mut client = connect(&server).await;
    let call = tokio::spawn({
        let mut client = client.clone();
        async move { client.unary(slow()).await }
    });
    within(server.until(|server| server.in_flight() == 1)).await;
    call.abort();
    within(server.until(|server| server.in_flight() == 0)).await;
    client.unary(request("the connection goes on")).await.unwrap();
}

#[tokio::test]
async fn stop_finishes_the_call_in_flight_and_closes_the_listener_meanwhile() {
    let server = EchoServer::start("a").await.unwrap();
    let address = server.address();
    let mut client = connect(&server).await;
    // The client's stream of messages stays open until the test ends it.
    let (messages, body) = tokio::sync::mpsc::channel(1);
    let call =
        tokio::spawn(async move { client.client_streaming(tokio_stream::wrappers::ReceiverStream::new(body)).await });
    messages.send(request("before")).await.unwrap();
    within(server.until(|server| server.in_flight() == 1)).await;

    let stopping = tokio::spawn(server.stop());
    within(async { while !refused(address).await {} }).await;
    assert!(!stopping.is_finished());
    messages.send(request(" after")).await.unwrap();
    drop(messages);
    assert_eq!(within(call).await.unwrap().unwrap().into_inner().payload, b"before after");
    within(stopping).await.unwrap();
}

#[tokio::test]
async fn kill_fails_the_calls_in_flight_and_connecting_is_refused() {
    let server = EchoServer::start("a").await.unwrap();
    let address = server.address();
    let mut client = connect(&server).await;
    let call = tokio::spawn(async move { client.unary(slow()).await });
    within(server.until(|server| server.in_flight() == 1)).await;

    within(server.kill()).await;
    assert!(refused(address).await);
    let status = within(call).await.unwrap().unwrap_err();
    assert!(matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Internal), "{status:?}");
}

#[tokio::test]
async fn a_killed_connection_is_reset_without_goaway() {
    let server = EchoServer::start("a").await.unwrap();
    // A client that says nothing but the preface and empty SETTINGS, and looks at the bytes that come back.
    let mut tcp = TcpStream::connect(server.address()).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut tcp, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let mut types = Vec::new();
    while types.len() < 2 {
        types.push(frame_type(&mut tcp).await.unwrap());
    }

    within(server.kill()).await;
    let error = loop {
        match within(frame_type(&mut tcp)).await {
            Ok(kind) => types.push(kind),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    const GOAWAY: u8 = 7;
    assert!(!types.contains(&GOAWAY), "{types:?}");
}

/// Reads one frame and says its type.
async fn frame_type(tcp: &mut TcpStream) -> std::io::Result<u8> {
    use tokio::io::AsyncReadExt;
    let mut head = [0; 9];
    tcp.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    tokio::io::copy(&mut tcp.take(length.into()), &mut tokio::io::sink()).await?;
    Ok(head[3])
}

#[tokio::test]
async fn dropping_kills_and_the_address_is_free_for_another() {
    let server = EchoServer::start("a").await.unwrap();
    let address = server.address();
    let mut client = connect(&server).await;
    let call = tokio::spawn(async move { client.unary(slow()).await });
    within(server.until(|server| server.in_flight() == 1)).await;

    drop(server);
    within(call).await.unwrap().unwrap_err();
    within(async { while !refused(address).await {} }).await;

    let again = EchoServer::start_at("b", address).await.unwrap();
    let answer = connect(&again).await.unary(request("hello")).await.unwrap().into_inner();
    assert_eq!(answer.server, "b");
}

#[tokio::test]
async fn settings_reach_the_server() {
    let limit = |server: tonic::transport::Server| server.max_concurrent_streams(1);
    let server = EchoServer::start_with("a", ([127, 0, 0, 1], 0).into(), limit).await.unwrap();
    let mut first = connect(&server).await;
    first.unary(request("the client has seen the settings now")).await.unwrap();
    let mut second = first.clone();
    let waiting = tokio::spawn(async move { first.unary(slow()).await });
    within(server.until(|server| server.in_flight() == 1)).await;
    let refused = timeout(Duration::from_millis(200), second.unary(request("no stream is left"))).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(server.calls(), 2);
    waiting.abort();
}
