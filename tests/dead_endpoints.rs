//! Endpoints that are signed in and do not answer cost no call.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use callboard::{Address, Channel, ChannelBuilder, ConnectivityState, Instance, Registration};
use callboard_echo::EchoServer;
use common::listing::Listing;
use common::silent::{Deaf, Odd, Refusing, SETTINGS, loopback};
use common::{Stage, echo, endpoint, in_time, quick, request, shares, until, waiting};
use tokio::net::TcpStream;
use tonic::Code;

/// Far above what a call to a live server takes, also on a busy machine, and far below the time to connect.
const AT_ONCE: Duration = Duration::from_secs(3);

/// Three live servers, and one endpoint that is not.
async fn three_and(dead: Address) -> (Stage, Vec<(EchoServer, Registration)>, Registration) {
    let stage = Stage::new();
    let live = vec![stage.server("a").await, stage.server("b").await, stage.server("c").await];
    let dead = stage.sign_in("dead", dead, 1).await;
    (stage, live, dead)
}

/// Calls from the first moment on, before anything is connected: none may fail, none may take long.
async fn all_succeed_at_once(channel: &Channel, calls: usize) {
    let mut client = echo(channel);
    for call in 0..calls {
        let begun = Instant::now();
        let answer = client.unary(request()).await.unwrap_or_else(|status| panic!("call {call}: {status:?}"));
        assert_ne!(answer.into_inner().server, "dead");
        assert!(begun.elapsed() < AT_ONCE, "call {call} took {:?}", begun.elapsed());
        assert_ne!(dead_state(channel), Some(ConnectivityState::Ready));
    }
}

/// None until the channel knows of it.
fn dead_state(channel: &Channel) -> Option<ConnectivityState> {
    let endpoints = channel.endpoints();
    endpoints.iter().find(|status| status.endpoint.instance().id() == "dead").map(|status| status.endpoint.state())
}

#[tokio::test]
async fn of_two_thousand_calls_none_fails_because_one_of_four_refuses() {
    let refusing = Refusing::new();
    let (stage, live, _dead) = three_and(refusing.address.clone()).await;
    let channel = stage.builder().backoff(quick()).build().unwrap();
    let shares = shares(&channel, 2_000).await;
    assert_eq!(shares.values().sum::<usize>(), 2_000);
    for (server, _) in &live {
        // Not a third each: the first calls went to whoever was connected first.
        assert!(shares[server.id()] > 500, "{shares:?}");
    }
    let dead = endpoint(&channel, "dead");
    assert_eq!(dead.endpoint.calls(), 0);
    let error = dead.connection_error.expect("it was dialled").chain();
    assert!(error.contains("refused"), "{error}");
}

#[tokio::test]
async fn no_call_waits_on_an_endpoint_that_accepts_and_never_speaks() {
    let hole = Odd::silent().await;
    let (stage, _live, _dead) = three_and(hole.address.clone()).await;
    let channel = stage.builder().build().unwrap();
    all_succeed_at_once(&channel, 500).await;
    until("it was dialled", || hole.accepted() == 1).await;
    assert_eq!(endpoint(&channel, "dead").endpoint.state(), ConnectivityState::Connecting);
}

#[tokio::test]
async fn no_call_waits_on_an_endpoint_whose_queue_is_full() {
    let deaf = Deaf::new();
    let (stage, _live, _dead) = three_and(deaf.address.clone()).await;
    let channel = stage.builder().build().unwrap();
    all_succeed_at_once(&channel, 500).await;
    assert_eq!(endpoint(&channel, "dead").endpoint.state(), ConnectivityState::Connecting);
}

/// Its status says why it is not connected, once the time to connect has passed, and when it is dialled again.
async fn tells_why(dead: Address, why: &str) {
    let (stage, _live, _dead) = three_and(dead).await;
    let channel = stage.builder().connect_timeout(Duration::from_millis(200)).build().unwrap();
    until("the attempt has failed", || dead_state(&channel) == Some(ConnectivityState::TransientFailure)).await;
    let dead = endpoint(&channel, "dead");
    let error = dead.connection_error.expect("it has failed").chain();
    assert!(error.starts_with(why) && error.contains("200ms"), "{error}");
    let retry_at = dead.retry_at.expect("it is dialled again");
    assert!(retry_at > tokio::time::Instant::now() && retry_at < tokio::time::Instant::now() + Duration::from_secs(2));
    all_succeed_at_once(&channel, 100).await;
}

#[tokio::test]
async fn the_status_of_an_endpoint_that_never_speaks_says_so() {
    let hole = Odd::silent().await;
    tells_why(hole.address.clone(), "HTTP/2: no SETTINGS").await;
}

#[tokio::test]
async fn the_status_of_an_endpoint_whose_queue_is_full_says_so() {
    let deaf = Deaf::new();
    tells_why(deaf.address.clone(), "TCP: no connection").await;
}

#[tokio::test]
async fn when_all_refuse_the_error_says_who_and_why() {
    let refusing = Refusing::new();
    let stage = Stage::new();
    let _registration = stage.sign_in("dead", refusing.address.clone(), 1).await;
    let channel = stage.builder().build().unwrap();
    // The first attempt to connect is waited for.
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    for part in ["project/test", "1 endpoint", "TRANSIENT_FAILURE", &refusing.address.to_string(), "refused"] {
        assert!(status.message().contains(part), "{part:?} is not in {:?}", status.message());
    }
    assert_eq!(channel.state(), ConnectivityState::TransientFailure);
}

/// Dialled with backoff, not in a loop, and calls go elsewhere meanwhile.
async fn is_dialled_with_backoff(odd: Odd) {
    let (stage, _live, _dead) = three_and(odd.address.clone()).await;
    let backoff = callboard::Backoff::new(Duration::from_millis(100), Duration::from_millis(100), 1.0, 0.0).unwrap();
    let channel = stage.builder().backoff(backoff).build().unwrap();
    let begun = Instant::now();
    let mut client = echo(&channel);
    while begun.elapsed() < Duration::from_millis(500) {
        client.unary(request()).await.unwrap();
    }
    until("it was dialled again", || odd.accepted() >= 3).await;
    let accepted = odd.accepted();
    let most = begun.elapsed().as_millis() as usize / 100 + 1;
    assert!(accepted <= most, "{accepted} connections in {:?}", begun.elapsed());
    until("the error is shown", || endpoint(&channel, "dead").connection_error.is_some()).await;
}

#[tokio::test]
async fn a_server_that_hangs_up_at_once_is_dialled_with_backoff() {
    is_dialled_with_backoff(Odd::hanging_up(b"").await).await;
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_dialled_with_backoff() {
    is_dialled_with_backoff(Odd::hanging_up(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await).await;
}

#[tokio::test]
async fn a_server_that_hangs_up_after_its_settings_is_dialled_with_backoff() {
    is_dialled_with_backoff(Odd::hanging_up(SETTINGS).await).await;
}

/// So many addresses of which no other test knows, each an instance.
fn nowhere(count: usize) -> Vec<Instance> {
    loopback(1).take(count).map(|address| Instance::at(address.try_into().unwrap()).unwrap()).collect()
}

/// Attempts to connect that are under way, and how many there were at most at once.
#[derive(Clone, Debug, Default)]
struct Dials(Arc<AtomicUsize>, Arc<AtomicUsize>);

impl Dials {
    /// Lets all attempts hang but those at this address.
    fn all_but(&self, good: Address, builder: ChannelBuilder) -> ChannelBuilder {
        let dials = self.clone();
        builder.connector(tower::service_fn(move |address: Address| {
            let (dial, good) = (dials.begin(), address == good);
            async move {
                let _dial = dial;
                match address.host_and_port() {
                    Some((host, port)) if good => TcpStream::connect((host, port)).await,
                    _ => pending().await,
                }
            }
        }))
    }

    fn begin(&self) -> Dial {
        let now = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.1.fetch_max(now, Ordering::SeqCst);
        Dial(Arc::clone(&self.0))
    }
}

struct Dial(Arc<AtomicUsize>);

impl Drop for Dial {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn however_many_addresses_are_silent_few_are_dialled_at_once_and_a_live_one_has_its_turn() {
    let server = EchoServer::start("live").await.unwrap();
    let live = Instance::at(server.address().try_into().unwrap()).unwrap();
    let dials = Dials::default();
    let set = Listing::new(nowhere(200).into_iter().chain([live]));
    let builder = dials.all_but(server.address().try_into().unwrap(), Stage::new().builder().resolver(set));
    // All have had their turn after some 3 s.
    let channel = builder.max_dials(20).connect_timeout(Duration::from_millis(200)).build().unwrap();
    in_time(echo(&channel).unary(waiting(request()))).await.unwrap();
    assert!((10..=20).contains(&dials.1.load(Ordering::SeqCst)), "{dials:?}");
    // One that was connected does not wait for those that never were.
    server.reset_connections().await;
    let begun = Instant::now();
    until("it is connected again", || server.accepted() >= 2).await;
    println!("connected again after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_millis(150), "{:?}", begun.elapsed());
    assert!(dials.1.load(Ordering::SeqCst) <= 20, "{dials:?}");
}

#[tokio::test]
async fn a_call_does_not_wait_until_all_of_many_silent_addresses_have_had_their_turn() {
    let (dials, set) = (Dials::default(), Listing::new(nowhere(500)));
    let builder = dials.all_but("127.0.0.1:9".parse().unwrap(), Stage::new().builder().resolver(set));
    // All would have had theirs after 20 s.
    let channel = builder.max_dials(10).connect_timeout(Duration::from_millis(300)).build().unwrap();
    let begun = Instant::now();
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("IDLE") && status.message().contains("TRANSIENT_FAILURE"), "{status:?}");
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}
