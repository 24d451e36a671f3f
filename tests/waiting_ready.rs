//! `wait_ready` does not wait for what waiting cannot bring, and for nothing less.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use callboard::balancer::RoundRobin;
use callboard::{
    Address, Balancer, Channel, ConnectivityState, Error, ErrorKind, Members, Picker, Resolver, Result, ServiceName,
    Snapshot,
};
use common::{PATIENCE, Stage, in_time, quick, until};
use futures_util::StreamExt;
use futures_util::future::ready;
use futures_util::stream::{self, BoxStream};

/// A registry that has one word for everybody.
#[derive(Debug)]
struct Refusing(ErrorKind);

impl Resolver for Refusing {
    fn watch(&self, _: &ServiceName) -> BoxStream<'static, Result<Snapshot>> {
        let error = Error::new(self.0, "no").in_backend("test");
        stream::once(ready(Err(error))).boxed()
    }
}

#[tokio::test]
async fn a_registry_that_refuses_is_not_waited_for() {
    for kind in [ErrorKind::Denied, ErrorKind::Invalid, ErrorKind::Unsupported] {
        let channel = Channel::builder("project/test".parse().unwrap()).resolver(Refusing(kind)).build().unwrap();
        let begun = Instant::now();
        let error = in_time(channel.wait_ready(PATIENCE * 10)).await.unwrap_err();
        assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.chain().contains("waiting does not help") && error.chain().contains("test: no"), "{error:?}");
    }
}

#[tokio::test]
async fn a_registry_out_of_reach_is_waited_for() {
    let refusing = Refusing(ErrorKind::Unavailable);
    let channel = Channel::builder("project/test".parse().unwrap()).resolver(refusing).build().unwrap();
    let error = in_time(channel.wait_ready(Duration::from_millis(300))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

/// A connector that knows whom it may connect to.
async fn not_there(
    known: Option<SocketAddr>,
) -> Result<tokio::net::TcpStream, Box<dyn std::error::Error + Send + Sync>> {
    match known {
        Some(address) => Ok(tokio::net::TcpStream::connect(address).await?),
        None => Err(Error::new(ErrorKind::Denied, "the sidecar does not let us through").into()),
    }
}

#[tokio::test]
async fn endpoints_that_all_fail_for_good_are_not_waited_for_and_one_that_may_come_up_is() {
    let stage = Stage::new();
    let gone: SocketAddr = {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.local_addr().unwrap()
    };
    let _denied = stage.sign_in("denied", "127.0.0.1:1".parse().unwrap(), 1).await;
    let refused = Arc::new(AtomicBool::new(false));
    let note = Arc::clone(&refused);
    let dial = tower::service_fn(move |address: Address| {
        let known = (address == Address::try_from(gone).unwrap()).then_some(gone);
        note.fetch_or(known.is_some(), Ordering::SeqCst);
        not_there(known)
    });
    let build = || stage.builder().backoff(quick()).connector(dial.clone()).build().unwrap();
    let channel = build();
    let error = in_time(channel.wait_ready(PATIENCE * 10)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.chain().contains("does not let us through"), "{}", error.chain());

    // Nobody listens there yet: it may come up.
    let _other = stage.sign_in("other", gone.try_into().unwrap(), 1).await;
    let channel = build();
    let error = in_time(channel.wait_ready(Duration::from_millis(500))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(refused.load(Ordering::SeqCst), "it was tried");
    let waiting = tokio::spawn(async move { channel.wait_ready(PATIENCE).await });
    let _server = callboard_echo::EchoServer::start_at("other", gone).await.unwrap();
    in_time(waiting).await.unwrap().expect("it is up now");
}

/// Makes one picker and then panics.
#[derive(Debug, Default)]
struct Fragile(AtomicBool);

impl Balancer for Fragile {
    fn name(&self) -> &str {
        "fragile"
    }

    fn picker(&self, ready: &Members) -> Box<dyn Picker> {
        assert!(!self.0.swap(true, Ordering::SeqCst), "on purpose");
        RoundRobin::new().picker(ready)
    }
}

#[tokio::test]
async fn a_channel_whose_task_has_ended_is_not_waited_for() {
    let stage = Stage::new();
    let (_a, leaver) = stage.server("a").await;
    let channel = stage.channel(stage.builder().balancer(Fragile::default()), 1).await;
    let (_b, _b2) = stage.server("b").await;
    leaver.deregister().await.unwrap();
    until("the task has ended", || channel.state() == ConnectivityState::Shutdown).await;
    let error = in_time(channel.wait_ready(PATIENCE * 10)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
}
