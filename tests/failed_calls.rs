//! What a failed call tells code: whether a server has failed it or the channel, how far it was, and where.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::error::Error;
use std::time::Duration;

use callboard::{CallError, Channel, Peer, Phase, ServedBy, Timeout, WaitForReady};
use callboard_echo::pb::{EchoRequest, EchoResponse};
use callboard_raw::Peer as Raw;
use common::refusing::{QUICK, Refusing, unavailable};
use common::scripted::Scripted;
use common::{Stage, echo, in_time, quick, request, slow, until, within};
use futures_util::{StreamExt, stream};
use tonic::{Code, Request, Response, Status};

/// The call, and who is told where it went.
fn watched<M>(message: M) -> (Request<M>, Peer) {
    let (mut request, peer) = (Request::new(message), Peer::new());
    request.extensions_mut().insert(peer.clone());
    (request, peer)
}

fn id(peer: &Peer) -> Option<String> {
    Some(peer.endpoint()?.instance().id().to_owned())
}

/// How far it was that the channel has failed, and where.
fn local(status: &Status) -> (Phase, Option<String>) {
    let error = CallError::of(status).unwrap_or_else(|| panic!("the channel has made it: {status:?}"));
    assert!(status.source().is_some());
    (error.phase(), error.endpoint().map(|endpoint| endpoint.instance().id().to_owned()))
}

#[tokio::test]
async fn what_a_server_says_is_not_the_channels_and_the_peer_is_known() {
    let stage = Stage::new();
    let _server = Refusing::start(&stage, "a", [Status::unavailable("full"), Status::not_found("no")]).await;
    let channel = stage.channel(stage.builder(), 1).await;
    for code in [Code::Unavailable, Code::NotFound] {
        let (asked, peer) = watched(request());
        assert_eq!(id(&peer), None);
        let status = in_time(echo(&channel).unary(asked)).await.unwrap_err();
        assert_eq!(status.code(), code);
        assert!(CallError::of(&status).is_none(), "a server has sent it: {status:?}");
        assert_eq!(id(&peer).as_deref(), Some("a"));
        // Whoever hands the status on gives nothing of this away.
        let text = format!("{:?}", status.into_http::<()>().headers());
        assert!(!text.contains(&peer.endpoint().unwrap().instance().address().to_string()), "{text}");
    }
    let (asked, peer) = watched(request());
    let answer = in_time(echo(&channel).unary(asked)).await.unwrap();
    assert_eq!(answer.extensions().get::<ServedBy>().unwrap().0.instance().id(), id(&peer).unwrap());
}

#[tokio::test]
async fn a_failure_in_the_trailers_is_the_servers_too() {
    let stage = Stage::new();
    let script = |mut peer: Raw| async move {
        peer.settings(&[]);
        while let Some(request) = peer.request().await {
            peer.head(request.stream);
            peer.message(request.stream, "a");
            peer.trailers(request.stream, "5");
        }
    };
    let _server = stage.raw("a", script).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let (asked, peer) = watched(request());
    let status = in_time(echo(&channel).unary(asked)).await.unwrap_err();
    assert_eq!((status.code(), CallError::of(&status).is_some()), (Code::NotFound, false), "{status:?}");
    assert_eq!(id(&peer).as_deref(), Some("a"));
}

#[tokio::test]
async fn of_several_attempts_the_last_endpoint_is_the_peer() {
    let stage = Stage::new();
    let _a = Refusing::always(&stage, "a", unavailable()).await;
    let _b = Refusing::start(&stage, "b", []).await;
    let channel = stage.channel(stage.under(&QUICK).await, 2).await;
    for _ in 0..4 {
        let (asked, peer) = watched(request());
        let answer = in_time(echo(&channel).unary(asked)).await.unwrap();
        assert_eq!((answer.get_ref().server.as_str(), id(&peer).as_deref()), ("b", Some("b")));
    }
}

#[tokio::test]
async fn no_endpoint_is_said_before_one_is_chosen() {
    let stage = Stage::new();
    let channel = stage.builder().build().unwrap();
    let (asked, peer) = watched(request());
    let status = in_time(echo(&channel).unary(asked)).await.unwrap_err();
    assert_eq!((status.code(), local(&status)), (Code::Unavailable, (Phase::Choosing, None)));
    assert_eq!(id(&peer), None);

    let mut asked = within(Duration::from_millis(20), request());
    asked.extensions_mut().insert(WaitForReady(true));
    let status = in_time(echo(&channel).unary(asked)).await.unwrap_err();
    assert_eq!((status.code(), local(&status)), (Code::DeadlineExceeded, (Phase::Choosing, None)));

    let mut asked = Request::new(request());
    asked.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    let status = in_time(echo(&channel).unary(asked)).await.unwrap_err();
    assert_eq!((status.code(), local(&status)), (Code::InvalidArgument, (Phase::Request, None)));
}

#[tokio::test]
async fn a_lost_connection_and_a_late_answer_are_the_channels() {
    let stage = Stage::new();
    let (server, _a) = stage.server("a").await;
    let channel = stage.channel(stage.builder().backoff(quick()), 1).await;
    let at_a = |phase| (phase, Some("a".to_owned()));

    let late = in_time(echo(&channel).unary(within(Duration::from_millis(50), slow(60_000)))).await.unwrap_err();
    assert_eq!((late.code(), local(&late)), (Code::DeadlineExceeded, at_a(Phase::Response)));

    let many = EchoRequest { repeat: 1_000, delay_ms: 20, ..request() };
    let begun = within(Duration::from_millis(200), many.clone());
    let mut answers = in_time(echo(&channel).server_streaming(begun)).await.unwrap().into_inner();
    let late = in_time(async {
        while answers.message().await?.is_some() {}
        Ok::<_, Status>(())
    })
    .await
    .unwrap_err();
    assert_eq!((late.code(), local(&late)), (Code::DeadlineExceeded, at_a(Phase::Body)));

    let (asked, peer) = watched(slow(60_000));
    let lost = tokio::spawn({
        let channel = channel.clone();
        async move { echo(&channel).unary(asked).await }
    });
    let mut answers = in_time(echo(&channel).server_streaming(many)).await.unwrap().into_inner();
    in_time(answers.message()).await.unwrap().expect("it has begun");
    in_time(server.until(|server| server.in_flight() == 2)).await;
    in_time(server.reset_connections()).await;
    let lost = in_time(lost).await.unwrap().unwrap_err();
    assert_eq!((lost.code(), local(&lost)), (Code::Unavailable, at_a(Phase::Response)), "{lost}");
    assert_eq!(id(&peer).as_deref(), Some("a"));
    let broken = in_time(async {
        while answers.message().await?.is_some() {}
        Ok::<_, Status>(())
    })
    .await
    .unwrap_err();
    assert_eq!((broken.code(), local(&broken)), (Code::Unavailable, at_a(Phase::Body)), "{broken}");
}

#[tokio::test]
async fn an_answer_that_is_no_grpc_is_the_channels_word() {
    let stage = Stage::new();
    let script = |mut peer: Raw| async move {
        peer.settings(&[]);
        while let Some(request) = peer.request().await {
            peer.headers(request.stream, &[(":status", "502"), ("content-type", "text/html")], true);
        }
    };
    let _server = stage.raw("a", script).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!((status.code(), local(&status)), (Code::Unavailable, (Phase::Response, Some("a".to_owned()))));
}

#[tokio::test]
async fn a_call_that_waits_to_be_sent_again_says_that() {
    let stage = Stage::new();
    let _a = Refusing::always(&stage, "a", unavailable()).await;
    let channel = stage.channel(stage.under(&common::refusing::SLOW).await, 1).await;
    let status = in_time(echo(&channel).unary(within(Duration::from_millis(50), request()))).await.unwrap_err();
    assert_eq!((status.code(), local(&status)), (Code::DeadlineExceeded, (Phase::Waiting, Some("a".to_owned()))));
}

/// A stream of requests that does not end is awaited, too, as long as the call may take.
#[tokio::test]
async fn a_request_that_does_not_end_is_late_at_its_response() {
    let stage = Stage::new();
    let (_server, _a) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    let mut asked = Request::new(stream::iter([request()]).chain(stream::pending()));
    asked.extensions_mut().insert(Timeout(Duration::from_millis(100)));
    let status = in_time(echo(&channel).client_streaming(asked)).await.unwrap_err();
    assert_eq!(local(&status).0, Phase::Response, "{status}");
}

/// A gateway: what its channel learns of the server behind it stays with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_hands_a_failure_on_without_where_it_was() {
    let (back, front) = (Stage::new(), Stage::new());
    let server = Refusing::always(&back, "a", Status::not_found("no such thing")).await;
    let behind: Channel = back.channel(back.builder(), 1).await;
    let handle = tokio::runtime::Handle::current();
    let gateway = Scripted::start(move |asked| {
        let behind = behind.clone();
        let call = async move { echo(&behind).unary(asked.into_inner()).await };
        let answer: Response<EchoResponse> = tokio::task::block_in_place(|| handle.block_on(call))?;
        Ok(Response::new(answer.into_inner()))
    });
    let gateway = gateway.await;
    let _g = front.sign_in("gateway", gateway.address.try_into().unwrap(), 1).await;
    let channel = front.channel(front.builder(), 1).await;
    let (asked, peer) = watched(request());
    let status = in_time(echo(&channel).unary(asked)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "no such thing"));
    assert!(!format!("{status:?}").contains(&server.address().to_string()), "{status:?}");
    assert_eq!(id(&peer).as_deref(), Some("gateway"));
    until("nothing is left open", || peer.endpoint().unwrap().in_flight() == 0).await;
}
