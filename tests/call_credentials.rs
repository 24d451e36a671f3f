//! Metadata that is made for each attempt of a call.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/reporting.rs"]
mod reporting;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use callboard::balancer::{WeightedRoundRobin, WeightedRoundRobinSettings};
use callboard::lookaside::v1::Server;
use callboard::{CallCredentials, CallError, Channel, ErrorKind, Peer, Phase, RequestInfo};
use callboard_echo::pb::EchoResponse;
use common::lookaside::Balancer;
use common::refusing::{Policy, QUICK, Refusing, unavailable};
use common::scripted::Scripted;
use common::{Stage, echo, endpoint, in_time, poll_once, request, until, within};
use reporting::Reporting;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};

/// What it was asked, and what it says then.
type Script = Box<dyn Fn(usize) -> Result<MetadataMap, Status> + Send + Sync>;

/// Credentials that follow a script, and note what they are asked for.
#[derive(Clone)]
struct Scripts {
    asked: Arc<Mutex<Vec<String>>>,
    script: Arc<Script>,
}

impl Scripts {
    /// Says this when it is asked for the first time, the second time…
    fn new(script: impl Fn(usize) -> Result<MetadataMap, Status> + Send + Sync + 'static) -> Self {
        Self { asked: Arc::default(), script: Arc::new(Box::new(script)) }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait::async_trait]
impl CallCredentials for Scripts {
    async fn metadata(&self, attempt: &RequestInfo<'_>) -> Result<MetadataMap, Status> {
        let line = format!(
            "{} {} {} at {}",
            attempt.number(),
            attempt.service_url(),
            attempt.call().path(),
            attempt.endpoint().instance().id()
        );
        let count = {
            let mut asked = self.asked.lock().unwrap();
            asked.push(line);
            asked.len()
        };
        (self.script)(count)
    }

    fn requires_tls(&self) -> bool {
        false
    }
}

fn token(text: &str) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    metadata.insert("authorization", text.parse().unwrap());
    metadata
}

/// A server that answers with the tokens that it has seen, joined by commas, and refuses the first so many.
async fn listening(stage: &Stage, refuses: usize) -> (Scripted, callboard::Registration) {
    let seen = AtomicUsize::new(0);
    let server = Scripted::start(move |request| {
        if seen.fetch_add(1, Ordering::SeqCst) < refuses {
            return Err(unavailable());
        }
        let values = request.metadata().get_all("authorization").iter();
        let values: Vec<_> = values.map(|value| value.to_str().unwrap().to_owned()).collect();
        Ok(Response::new(EchoResponse { server: values.join(","), payload: Vec::new() }))
    })
    .await;
    let registration = stage.sign_in("a", server.address.try_into().unwrap(), 1).await;
    (server, registration)
}

#[tokio::test]
async fn each_attempt_has_its_own_in_the_place_of_the_requests() {
    let stage = Stage::new();
    let _server = listening(&stage, 2).await;
    let tokens = Scripts::new(|count| Ok(token(&format!("token {count}"))));
    let builder = stage.under(&QUICK).await.authority("echo.example:443").call_credentials(tokens.clone());
    let channel = stage.channel(builder, 1).await;
    let mut asked = Request::new(request());
    asked.metadata_mut().insert("authorization", "stale".parse().unwrap());
    let answer = in_time(echo(&channel).unary(asked)).await.unwrap();
    assert_eq!(answer.get_ref().server, "token 3", "fresh for the third attempt, and alone");
    let line =
        |number| format!("{number} https://echo.example/callboard.echo.v1.Echo /callboard.echo.v1.Echo/Unary at a");
    assert_eq!(tokens.asked(), [line(1), line(2), line(3)]);
}

#[tokio::test]
async fn a_name_may_have_several_values() {
    let stage = Stage::new();
    let _server = listening(&stage, 0).await;
    let tokens = Scripts::new(|_| {
        let mut two = token("one");
        two.append("authorization", "two".parse().unwrap());
        Ok(two)
    });
    let channel = stage.channel(stage.builder().call_credentials(tokens), 1).await;
    assert_eq!(in_time(echo(&channel).unary(request())).await.unwrap().get_ref().server, "one,two");
}

#[tokio::test]
async fn an_error_ends_the_call_unsent_within_the_codes_that_are_not_for_servers() {
    let stage = Stage::new();
    let server = Refusing::start(&stage, "a", []).await;
    let codes = [
        (Status::unauthenticated("no token"), Code::Unauthenticated),
        (Status::permission_denied("no token"), Code::PermissionDenied),
        (Status::not_found("no token"), Code::Internal),
        (Status::ok("no token"), Code::Internal),
    ];
    for (says, expected) in codes {
        let failing = Scripts::new(move |_| Err(says.clone()));
        let channel = stage.channel(stage.builder().call_credentials(failing), 1).await;
        let peer = Peer::new();
        let mut asked = Request::new(request());
        asked.extensions_mut().insert(peer.clone());
        let status = in_time(echo(&channel).unary(asked)).await.unwrap_err();
        assert_eq!(status.code(), expected, "{status}");
        assert!(status.message().contains("credentials") && status.message().contains("no token"), "{status}");
        assert!(status.message().contains(&server.address().to_string()), "it says where: {status}");
        assert_eq!(CallError::of(&status).unwrap().phase(), Phase::Credentials);
        assert_eq!(peer.endpoint().unwrap().instance().id(), "a");
        assert_eq!(endpoint(&channel, "a").endpoint.in_flight(), 0);
    }
    assert_eq!(server.attempts().len(), 0, "nothing was sent");
}

#[tokio::test]
async fn what_is_not_theirs_to_set_is_refused() {
    let stage = Stage::new();
    let server = Refusing::start(&stage, "a", []).await;
    for name in ["grpc-timeout", "te", "content-type", "user-agent", "lb-token"] {
        let tokens = Scripts::new(move |_| {
            let mut metadata = MetadataMap::new();
            metadata.insert(name, "1S".parse().unwrap());
            Ok(metadata)
        });
        let channel = stage.channel(stage.builder().call_credentials(tokens), 1).await;
        let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
        assert_eq!(status.code(), Code::Internal, "{status}");
        assert!(status.message().contains(name), "{status}");
    }
    assert_eq!(server.attempts().len(), 0);
}

#[tokio::test]
async fn a_retry_policy_has_its_say_and_the_endpoint_is_not_avoided_for_it() {
    let stage = Stage::new();
    let server = Refusing::start(&stage, "a", []).await;
    let tokens = Scripts::new(|count| match count {
        1 | 2 => Err(Status::unavailable("the issuer is restarting")),
        _ => Ok(token("good")),
    });
    let builder = stage.under(&QUICK).await.call_credentials(tokens.clone());
    let channel = stage.channel(builder, 1).await;
    in_time(echo(&channel).unary(request())).await.unwrap();
    assert_eq!(tokens.asked().len(), 3);
    assert_eq!(server.previous(), ["2"], "one attempt has reached it");

    let never = Scripts::new(|_| Err(Status::unavailable("no issuer")));
    let builder = stage.under(&Policy { attempts: 3, ..QUICK }).await.call_credentials(never.clone());
    let channel = stage.channel(builder, 1).await;
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!((status.code(), never.asked().len()), (Code::Unavailable, 3), "{status}");
}

/// Credentials that never come, and count those who wait.
#[derive(Clone, Default)]
struct Never(Arc<AtomicUsize>);

struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait::async_trait]
impl CallCredentials for Never {
    async fn metadata(&self, attempt: &RequestInfo<'_>) -> Result<MetadataMap, Status> {
        assert!(attempt.time_left().is_none_or(|left| left <= Duration::from_millis(100)));
        self.0.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(Arc::clone(&self.0));
        std::future::pending().await
    }

    fn requires_tls(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn they_have_the_calls_time_and_are_dropped_with_it() {
    let stage = Stage::new();
    let server = Refusing::start(&stage, "a", []).await;
    let never = Never::default();
    let channel = stage.channel(stage.builder().call_credentials(never.clone()), 1).await;
    let status = in_time(echo(&channel).unary(within(Duration::from_millis(100), request()))).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
    assert!(status.message().contains("credentials"), "{status}");
    assert_eq!(CallError::of(&status).unwrap().phase(), Phase::Credentials);
    assert_eq!(never.0.load(Ordering::SeqCst), 0, "it was dropped");

    let given_up = tokio::spawn({
        let channel = channel.clone();
        async move { echo(&channel).unary(request()).await }
    });
    until("it is asked", || never.0.load(Ordering::SeqCst) == 1).await;
    given_up.abort();
    until("it is dropped with the call", || never.0.load(Ordering::SeqCst) == 0).await;
    until("its place is free", || endpoint(&channel, "a").endpoint.in_flight() == 0).await;
    assert_eq!(server.attempts().len(), 0);
}

/// Credentials as most are: for TLS alone.
struct Secret;

#[async_trait::async_trait]
impl CallCredentials for Secret {
    async fn metadata(&self, _: &RequestInfo<'_>) -> Result<MetadataMap, Status> {
        Ok(token("hunter2"))
    }
}

#[tokio::test]
async fn without_tls_they_are_not_sent_unless_they_say_that_they_may() {
    let stage = Stage::new();
    let builder = stage.builder().call_credentials(Secret);
    assert!(format!("{builder:?}").contains("CallCredentials(..)"), "{builder:?}");
    let error = builder.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("require TLS"), "{error}");
}

/// A server asks for credentials with every method, that of load reports included.
#[tokio::test]
async fn load_reports_out_of_band_are_asked_for_with_them() {
    let stage = Stage::new();
    let server =
        Reporting::start(Some(Duration::from_millis(10)), |_| Ok(Response::new(EchoResponse::default()))).await;
    let _a = stage.sign_in("a", server.address.try_into().unwrap(), 1).await;
    let mut settings = WeightedRoundRobinSettings::default();
    settings.enable_oob_load_report = true;
    let tokens = Scripts::new(|_| Ok(token("good")));
    let builder = stage.builder().balancer(WeightedRoundRobin::with_settings(settings).unwrap());
    let _channel: Channel = stage.channel(builder.call_credentials(tokens.clone()), 1).await;
    until("it is asked", || tokens.asked().iter().any(|line| line.contains("OpenRcaService"))).await;
}

/// Who says where the servers are is not who the tokens are for.
#[tokio::test]
async fn an_external_balancer_gets_none() {
    let stage = Stage::new();
    let server = listening(&Stage::new(), 0).await;
    let balancer = Balancer::listing([Server::at(server.0.address, "")]).await;
    let _b = stage.balancer("b", balancer.address()).await;
    let tokens = Scripts::new(|_| Ok(token("good")));
    let channel = stage.channel(stage.builder().call_credentials(tokens.clone()), 1).await;
    assert_eq!(in_time(echo(&channel).unary(request())).await.unwrap().get_ref().server, "good");
    assert_eq!(balancer.names().len(), 1, "it was asked");
    let asked = tokens.asked();
    assert!(asked.len() == 1 && asked[0].contains("echo.v1.Echo"), "{asked:?}");
}

/// Gives nothing to the first who asks.
struct NotTheFirst(AtomicUsize);

#[async_trait::async_trait]
impl CallCredentials for NotTheFirst {
    fn requires_tls(&self) -> bool {
        false
    }

    async fn metadata(&self, _: &RequestInfo<'_>) -> Result<MetadataMap, Status> {
        match self.0.fetch_add(1, Ordering::SeqCst) {
            0 => std::future::pending().await,
            _ => Ok(MetadataMap::new()),
        }
    }
}

#[tokio::test]
async fn a_call_that_waits_for_credentials_keeps_its_place_until_its_deadline_even_if_nobody_polls_it() {
    let stage = Stage::new();
    let script = |mut peer: callboard_raw::Peer| async move {
        peer.settings(&[(3, 1)]);
        while let Some(request) = peer.request().await {
            peer.answer(request.stream, "a");
        }
    };
    let (server, _registration) = stage.raw("a", script).await;
    let channel = stage.channel(stage.builder().call_credentials(NotTheFirst(AtomicUsize::new(0))), 1).await;
    let mut client = echo(&channel);
    let mut left = Box::pin(async move { client.unary(within(Duration::from_millis(300), request())).await });
    assert!(poll_once(&mut left).await.is_pending());
    in_time(echo(&channel).unary(request())).await.unwrap();
    assert_eq!(server.stats().requests, 1);
    assert_eq!(in_time(left).await.unwrap_err().code(), Code::DeadlineExceeded);
}
