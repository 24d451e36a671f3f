//! External balancers beside grpc-go's: its `grpclb` asks ours, and our channel asks one that is made with its package.
//! Where there is no Go, what both have once said to each other is played again.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/grpc_go.rs"]
mod grpc_go;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use callboard::lookaside::v1::{ClientStats, LoadBalanceRequest, LoadBalanceResponse, Request, Response, Server};
use callboard::lookaside::{Decides, FallbackReason};
use callboard::{Address, Channel, Instance, Registration, RegistrationSettings, register, registry};
use callboard_echo::EchoServer;
use common::lookaside::{Balancer, Noting, decides, until_fallback, until_listed};
use common::{PATIENCE, Stage, echo, in_time, request, until};
use grpc_go::{Frame, Program, Tap, frames, messages, recording};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What each call came to, as a program in Go counts it.
type Answers = BTreeMap<String, usize>;

fn answers<const N: usize>(of: [(&str, usize); N]) -> Answers {
    of.into_iter().map(|(answer, count)| (answer.to_owned(), count)).collect()
}

async fn calls(client: &mut Program, count: usize) -> Answers {
    client.order(&count.to_string()).await;
    let line = client.answer().await;
    let pairs = line.trim_matches(['{', '}']).split(',').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (answer, count) = pair.rsplit_once(':').unwrap();
        (answer.trim_matches('"').to_owned(), count.parse().unwrap())
    };
    pairs.map(pair).collect()
}

/// Makes so many calls again and again, until the answers are these.
async fn until_answers(client: &mut Program, count: usize, wanted: Answers) {
    let begun = std::time::Instant::now();
    loop {
        let seen = calls(client, count).await;
        if seen == wanted {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{seen:?} instead of {wanted:?}");
    }
}

/// Signs a server in, with a weight, on the board of a URL.
async fn sign_in(url: &str, server: &EchoServer, weight: u32) -> Registration {
    let (registry, service) = registry(url).unwrap();
    let instance = Instance::new(server.id(), server.address().try_into().unwrap()).unwrap().with_weight(weight);
    let registration = register(registry, &service, instance, RegistrationSettings::default());
    registration.wait_registered(PATIENCE).await.unwrap();
    registration
}

/// What a client is told, and what it reports, in the recorded conversation of grpc-go's client.
fn for_go_s_client(a: SocketAddr, b: SocketAddr) -> [Server; 4] {
    [Server::at(a, "one"), Server::at(b, "two"), Server::dropping("busy"), Server::at(a, "three")]
}

fn sum(reports: &[ClientStats]) -> (i64, i64, i64, i64) {
    reports.iter().fold((0, 0, 0, 0), |(started, finished, received, dropped), stats| {
        let received = received + stats.num_calls_finished_known_received;
        (started + stats.num_calls_started, finished + stats.num_calls_finished, received, dropped + stats.dropped())
    })
}

#[tokio::test]
#[ignore = "needs Go: make test"]
async fn grpc_go_s_client_follows_our_example() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file:///project/test?root={}", folder.path().display());
    let (a, b) = (EchoServer::start("a").await.unwrap(), EchoServer::start("b").await.unwrap());
    let _signed_in = (sign_in(&url, &a, 3).await, sign_in(&url, &b, 1).await);
    let mut command = tokio::process::Command::new(env!("CARGO"));
    command.args(["run", "--quiet", "--example", "lookaside", "--", &url, "--listen", "127.0.0.1:0"]);
    let mut example = Program::start(command);
    let first = example.first_answer().await;
    let address = first.strip_prefix("balancing ").unwrap();
    let mut client = Program::go("lb_client", &[address]).await;
    assert_eq!(client.answer().await, "ready");
    until_answers(&mut client, 4, answers([("a", 3), ("b", 1)])).await;
    assert_eq!(calls(&mut client, 400).await, answers([("a", 300), ("b", 100)]));
    // The board changes, and grpc-go's calls with it.
    let c = EchoServer::start("c").await.unwrap();
    let _c = sign_in(&url, &c, 4).await;
    until_answers(&mut client, 8, answers([("a", 3), ("b", 1), ("c", 4)])).await;
}

#[tokio::test]
#[ignore = "needs Go: make test"]
async fn grpc_go_s_client_does_as_our_balancer_says_and_tells_what_it_did() {
    let (a, b) = (EchoServer::start("a").await.unwrap(), EchoServer::start("b").await.unwrap());
    let plain = EchoServer::start("plain").await.unwrap();
    let balancer = Balancer::start(Duration::from_millis(100)).await;
    balancer.list(for_go_s_client(a.address(), b.address()));
    let tap = Tap::to(balancer.address()).await;
    let mut client = Program::go("lb_client", &[&tap.address.to_string(), &plain.address().to_string()]).await;
    assert_eq!(client.answer().await, "ready");
    let dropped = "request dropped by grpclb";
    until_answers(&mut client, 4, answers([("a", 2), ("b", 1), (dropped, 1)])).await;
    assert_eq!(calls(&mut client, 400).await, answers([("a", 200), ("b", 100), (dropped, 100)]));
    assert_eq!(balancer.names(), ["project/test"], "the same name as our channel's");
    until("all is reported", || sum(&balancer.reports()).1 >= 404).await;
    let (started, finished, received, dropped) = sum(&balancer.reports());
    assert_eq!((started, received + dropped), (finished, finished));
    assert_eq!(received, 3 * dropped, "{started}");
    tap.keep_as("client");
    // Fallback, and its end.
    balancer.say(&LoadBalanceResponse::fallback());
    until_answers(&mut client, 4, answers([("plain", 4)])).await;
    balancer.list([Server::at(b.address(), "")]);
    until_answers(&mut client, 4, answers([("b", 4)])).await;
}

#[tokio::test]
#[ignore = "needs Go: make test"]
async fn our_channel_does_as_a_balancer_of_grpc_go_says() {
    let stage = Stage::new();
    let (a, b) = (Noting::start("a").await, Noting::start("b").await);
    let (plain, _in_plain) = stage.server("plain").await;
    let mut balancer = Program::go("lb_balancer", &["100ms"]).await;
    let address: Address = balancer.told("listening").await.parse().unwrap();
    let list = format!("{}=one {}=two drop=busy {0}=three", a.server.address, b.server.address);
    balancer.order(&list).await;
    let _balancer = stage.balancer("balancer", address.clone()).await;
    let channel = stage.builder().build().unwrap();
    until_listed(&channel, 2).await;
    assert_eq!(balancer.told("asked").await, "project/test");
    let mut dropped = 0;
    for _ in 0..400 {
        dropped += usize::from(echo(&channel).unary(request()).await.is_err());
    }
    assert_eq!([a.calls(Some("one")), a.calls(Some("three")), b.calls(Some("two")), dropped], [100; 4]);
    // What it was told adds up.
    let (mut started, mut received, mut reported) = (0, 0, 0);
    while started < 400 {
        let stats = balancer.told("stats").await;
        let number = |name: &str| -> i64 {
            let rest = stats.split_once(&format!("\"{name}\":")).map_or("0", |(_, rest)| rest);
            rest.split([',', '}']).next().unwrap().parse().unwrap()
        };
        started += number("started");
        received += number("known_received");
        reported += number("busy");
    }
    assert_eq!((started, received, reported), (400, 300, 100));

    balancer.order("fallback").await;
    until_fallback(&channel, FallbackReason::Asked).await;
    assert_eq!(in_time(echo(&channel).unary(request())).await.unwrap().get_ref().server, "plain");
    balancer.order(&format!("{}=four", b.server.address)).await;
    until_listed(&channel, 1).await;
    for _ in 0..10 {
        echo(&channel).unary(request()).await.unwrap();
    }
    assert_eq!(b.calls(Some("four")), 10);
    // It hangs up, and is asked again; it dies, and its list is kept.
    balancer.order("hang up").await;
    while balancer.answer().await != "asked project/test" {}
    drop(balancer);
    until("its death is noticed", || channel.lookaside().is_some_and(|lookaside| lookaside.balancer.is_none())).await;
    for _ in 0..10 {
        echo(&channel).unary(request()).await.unwrap();
    }
    assert_eq!((b.calls(Some("four")), plain.calls()), (20, 1));
}

/// A channel of a service that has this balancer, and nobody else.
async fn asking(stage: &Stage, balancer: SocketAddr) -> (Channel, Registration) {
    let registration = stage.balancer("balancer", balancer).await;
    (stage.builder().build().unwrap(), registration)
}

/// What grpc-go's balancer is made to say for the recording.
const RECORDED_LIST: &str = "127.0.0.1:50051=one [2001:db8::1]:50052=two 127.0.0.1:50051=three drop=busy";

/// What a channel makes of it.
async fn until_recorded_list(channel: &Channel) {
    until("the recorded list decides", || {
        matches!(decides(channel), Some(Decides::Balancer { servers: 2, entries: 4, drops: 1, skipped: 0, .. }))
    })
    .await;
    let listed: Vec<_> =
        channel.endpoints().iter().map(|status| status.endpoint.instance().address().to_string()).collect();
    assert_eq!(listed, ["127.0.0.1:50051", "[2001:db8::1]:50052"]);
}

#[tokio::test]
#[ignore = "needs Go: make test"]
async fn what_is_recorded_is_what_grpc_go_s_balancer_says() {
    for (order, name) in [(RECORDED_LIST, "list"), ("fallback", "fallback")] {
        let stage = Stage::new();
        let mut balancer = Program::go("lb_balancer", &["100ms"]).await;
        let address = balancer.told("listening").await;
        balancer.order(order).await;
        let tap = Tap::to(address.parse().unwrap()).await;
        let (channel, _registration) = asking(&stage, tap.address).await;
        assert_eq!(balancer.told("asked").await, "project/test");
        match name {
            "list" => until_recorded_list(&channel).await,
            _ => until_fallback(&channel, FallbackReason::Asked).await,
        }
        // The first report says that there is nothing.
        balancer.told("stats").await;
        tap.keep_as(name);
        let now = messages::<LoadBalanceResponse>(&frames(&tap.passed.by_server.lock().unwrap()));
        assert_eq!(now, messages(&frames(&std::fs::read(recording(name, "server")).unwrap())));
    }
}

/// Plays a server's side of a conversation to whoever connects first: the opening at once, all else when the client has
/// opened a stream. Returns where, and what the client says.
async fn play(name: &str) -> (SocketAddr, Arc<std::sync::Mutex<Vec<u8>>>) {
    let said = frames(&std::fs::read(recording(name, "server")).unwrap());
    let (opening, rest) = said.split_first().unwrap();
    assert_eq!(opening.kind, 4, "a server's first frame is SETTINGS");
    let (opening, rest) =
        (opening.bytes.clone(), rest.iter().flat_map(|frame| frame.bytes.clone()).collect::<Vec<_>>());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::<std::sync::Mutex<Vec<u8>>>::default();
    let ear = Arc::clone(&heard);
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(&opening).await.unwrap();
        let (mut buffer, mut rest) = ([0; 4096], Some(rest));
        while let Ok(length @ 1..) = socket.read(&mut buffer).await {
            ear.lock().unwrap().extend_from_slice(&buffer[..length]);
            let opened = client_frames(&ear.lock().unwrap()).iter().any(|frame| frame.kind == 1);
            if opened && let Some(rest) = rest.take() {
                socket.write_all(&rest).await.unwrap();
            }
        }
    });
    (address, heard)
}

/// The frames after the preface of a client.
fn client_frames(bytes: &[u8]) -> Vec<Frame> {
    bytes.strip_prefix(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").map(frames).unwrap_or_default()
}

/// What a client has said, without the moments of its reports.
fn requests(bytes: &[u8]) -> Vec<LoadBalanceRequest> {
    let mut requests = messages::<LoadBalanceRequest>(&client_frames(bytes));
    for request in &mut requests {
        if let Some(Request::ClientStats(stats)) = &mut request.load_balance_request_type {
            stats.timestamp = None;
        }
    }
    requests
}

#[tokio::test]
async fn our_channel_understands_what_a_recorded_balancer_says() {
    for name in ["list", "fallback"] {
        let stage = Stage::new();
        let (address, heard) = play(name).await;
        let (channel, _registration) = asking(&stage, address).await;
        match name {
            "list" => until_recorded_list(&channel).await,
            _ => until_fallback(&channel, FallbackReason::Asked).await,
        }
        // And it still says what it said to grpc-go.
        let recorded = requests(&std::fs::read(recording(name, "client")).unwrap());
        assert!(recorded.len() >= 2, "{recorded:?}");
        until("it has said as much", || requests(&heard.lock().unwrap()).len() >= recorded.len()).await;
        assert_eq!(requests(&heard.lock().unwrap())[..recorded.len()], recorded);
    }
}

#[tokio::test]
async fn our_balancer_understands_what_a_recorded_client_says() {
    let balancer = Balancer::start(Duration::from_millis(100)).await;
    let recorded = frames(&std::fs::read(recording("client", "server")).unwrap());
    // What our balancer said then, it is to say again.
    let recorded: Vec<LoadBalanceResponse> = messages(&recorded);
    let Some(Response::ServerList(list)) = recorded.last().and_then(|last| last.load_balance_response_type.clone())
    else {
        panic!("{recorded:?}")
    };
    balancer.list(list.servers);
    let mut socket = TcpStream::connect(balancer.address()).await.unwrap();
    socket.write_all(&std::fs::read(recording("client", "client")).unwrap()).await.unwrap();
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    while messages::<LoadBalanceResponse>(&frames(&said)).len() < recorded.len() {
        let length = in_time(socket.read(&mut buffer)).await.unwrap();
        assert_ne!(length, 0, "the connection was closed after {:?}", frames(&said));
        said.extend_from_slice(&buffer[..length]);
    }
    assert_eq!(messages::<LoadBalanceResponse>(&frames(&said)), recorded);
    assert_eq!(balancer.names(), ["project/test"]);
    until("all of its reports are heard", || sum(&balancer.reports()).1 >= 404).await;
    let (started, finished, received, dropped) = sum(&balancer.reports());
    assert_eq!((started, received + dropped, received), (finished, finished, 3 * dropped));
}
