//! Making a channel, and asking how it stands.

mod common;

use std::time::Duration;

use callboard::backend::Memory;
use callboard::{Channel, ConnectivityState, ErrorKind, ServedBy};
use callboard_echo::pb::{EchoRequest, EchoResponse};
use common::scripted::Scripted;
use common::silent::Refusing;
use common::{PATIENCE, Stage, echo, endpoint, in_time, request};
use tonic::Response;

#[test]
fn a_channel_that_is_built_outside_a_runtime_is_an_error() {
    let error = Stage::new().builder().build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.chain().contains("within a Tokio runtime"), "{}", error.chain());
}

#[tokio::test]
async fn a_missing_resolver_is_named() {
    let error = Channel::builder("project/test".parse().unwrap()).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.chain().contains("resolver") && error.chain().contains("project/test"), "{}", error.chain());
}

#[tokio::test]
async fn bad_settings_are_named() {
    let stage = Stage::new();
    for (builder, name) in [
        (stage.builder().authority("not an authority"), "authority"),
        (stage.builder().authority(""), "authority"),
        (stage.builder().user_agent("a\nb"), "user_agent"),
        (stage.builder().connect_timeout(Duration::ZERO), "connect_timeout"),
    ] {
        let error = builder.build().expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.chain().contains(name), "{}", error.chain());
    }
}

#[tokio::test]
async fn nothing_has_to_be_up_when_a_channel_is_built() {
    let board = Memory::default();
    board.faults(|faults| faults.hang = true);
    let channel = Channel::builder("project/test".parse().unwrap()).resolver(board).build().unwrap();
    assert_eq!(channel.state(), ConnectivityState::Connecting);
    assert!(channel.endpoints().is_empty());
    assert_eq!(channel.service().as_str(), "project/test");
}

#[tokio::test]
async fn the_response_names_the_endpoint_that_served_it() {
    let stage = Stage::new();
    let (server, registration) = stage.server("a").await;
    registration.update(|instance| drop(instance.metadata_mut().insert("rack".into(), "7".into())));
    let channel = stage.channel(stage.builder(), 1).await;
    common::until("the metadata is known", || !endpoint(&channel, "a").endpoint.instance().metadata().is_empty()).await;
    let response = echo(&channel).unary(request()).await.unwrap();
    let ServedBy(endpoint) = response.extensions().get().expect("the endpoint");
    assert_eq!(endpoint.instance().id(), "a");
    assert_eq!(endpoint.instance().address(), &callboard::Address::try_from(server.address()).unwrap());
    assert_eq!(endpoint.instance().metadata()["rack"], "7");
    assert_eq!((endpoint.calls(), endpoint.in_flight()), (1, 0));
}

#[tokio::test]
async fn endpoints_show_state_error_and_the_next_attempt() {
    let stage = Stage::new();
    let refusing = Refusing::new();
    let (_server, _a) = stage.server("a").await;
    let _b = stage.sign_in("b", refusing.address.clone(), 1).await;
    let channel = stage.channel(stage.builder(), 1).await;
    common::until("the dead one has failed", || endpoint(&channel, "b").connection_error.is_some()).await;
    let (live, dead) = (endpoint(&channel, "a"), endpoint(&channel, "b"));
    assert_eq!(live.endpoint.state(), ConnectivityState::Ready);
    assert!(live.connection_error.is_none() && live.retry_at.is_none());
    assert_eq!(dead.endpoint.state(), ConnectivityState::TransientFailure);
    assert!(dead.retry_at.is_some());
    let ids: Vec<_> = channel.endpoints().iter().map(|status| status.endpoint.instance().id().to_owned()).collect();
    assert_eq!(ids, ["a", "b"], "in the registry's order");
}

#[tokio::test]
async fn the_state_is_seen_and_watched_from_beginning_to_end() {
    let stage = Stage::new();
    let channel = stage.builder().build().unwrap();
    let mut watched = channel.watch_state();
    assert_eq!(*watched.borrow(), ConnectivityState::Connecting);
    in_time(watched.wait_for(|state| *state == ConnectivityState::TransientFailure)).await.unwrap();
    let (server, registration) = stage.server("a").await;
    in_time(watched.wait_for(|state| *state == ConnectivityState::Ready)).await.unwrap();
    assert_eq!(channel.state(), ConnectivityState::Ready);
    server.kill().await;
    in_time(watched.wait_for(|state| *state == ConnectivityState::TransientFailure)).await.unwrap();
    drop(registration);
    drop(channel);
    in_time(async { while watched.changed().await.is_ok() {} }).await;
}

#[tokio::test]
async fn waiting_until_ready_ends_when_an_endpoint_is() {
    let stage = Stage::new();
    let channel = stage.builder().build().unwrap();
    let waiting = tokio::spawn({
        let channel = channel.clone();
        async move { channel.wait_ready(PATIENCE).await }
    });
    let (_server, _registration) = stage.server("a").await;
    in_time(waiting).await.unwrap().unwrap();
    assert_eq!(channel.state(), ConnectivityState::Ready);
    channel.wait_ready(Duration::ZERO).await.expect("it is ready already");
}

#[tokio::test]
async fn waiting_until_ready_in_vain_says_how_the_channel_stands() {
    let stage = Stage::new();
    let refusing = Refusing::new();
    let _registration = stage.sign_in("a", refusing.address.clone(), 1).await;
    let channel = stage.builder().build().unwrap();
    let error = channel.wait_ready(Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    for part in ["300ms", "project/test", "1 endpoint", &refusing.address.to_string(), "refused"] {
        assert!(error.chain().contains(part), "{part:?} is not in {:?}", error.chain());
    }
}

#[tokio::test]
async fn the_server_sees_the_user_agent() {
    let stage = Stage::new();
    let script = |request: tonic::Request<EchoRequest>| {
        let agent = request.metadata().get("user-agent").expect("told").as_bytes().to_vec();
        Ok(Response::new(EchoResponse { payload: agent, ..EchoResponse::default() }))
    };
    let server = Scripted::start(script).await;
    let _registration = stage.sign_in("a", server.address.try_into().unwrap(), 1).await;
    let channel = stage.channel(stage.builder().user_agent("shop/3.1"), 1).await;
    let agent = String::from_utf8(echo(&channel).unary(request()).await.unwrap().into_inner().payload).unwrap();
    assert!(agent.starts_with("shop/3.1 callboard/"), "{agent}");
}
