//! Which service config is in force, and what becomes of bad ones.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use callboard::{CONFIG_NAME, Error, ErrorKind, put_service_config};
use common::{Stage, shares, until, until_config, until_refused};

const PICK_FIRST: &str =
    r#"{"loadBalancingConfig": [{"pick_first": {}}], "methodConfig": [{"name": [{}], "timeout": "60s"}]}"#;

#[tokio::test]
async fn a_bad_config_is_refused_whole_and_the_former_one_stays() {
    let stage = Stage::new();
    let _servers = [stage.server("a").await, stage.server("b").await];
    stage.put_service_config(Some(PICK_FIRST)).await;
    let channel = stage.builder().build().unwrap();
    until_config(&channel, Some(PICK_FIRST)).await;
    let garbage: [(&[u8], &str); 4] = [
        (b"\xff\xfe", "project/test: service config: not UTF-8"),
        (b"{\"loadBalancingConfig\":", "project/test: service config: loadBalancingConfig: EOF"),
        (
            br#"{"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": [{}, {"timeout": "1"}]}"#,
            "project/test: service config: methodConfig[1].timeout: \"1\"",
        ),
        (br#"{"loadBalancingConfig": [{"a": {}}]}"#, "no balancer in it is known here: \"a\""),
    ];
    for (bad, why) in garbage {
        stage.board.put(&stage.service, CONFIG_NAME, Some(bad));
        let status = until_refused(&channel, why).await;
        assert_eq!((status.active.as_deref(), &*status.balancer), (Some(PICK_FIRST), "pick_first"));
        assert_eq!(shares(&channel, 20).await.len(), 1, "calls go on, to one");
    }
    // As good as before.
    stage.put_service_config(Some(PICK_FIRST)).await;
    until_config(&channel, Some(PICK_FIRST)).await;
}

#[tokio::test]
async fn a_first_config_that_is_bad_leaves_the_defaults() {
    let stage = Stage::new();
    let _servers = [stage.server("a").await, stage.server("b").await];
    stage.board.put(&stage.service, CONFIG_NAME, Some(b"{"));
    let channel = stage.channel(stage.builder(), 2).await;
    let status = until_refused(&channel, "EOF").await;
    assert_eq!((status.active, &*status.balancer), (None, "round_robin"));
    assert_eq!(shares(&channel, 20).await["a"], 10);
    stage.put_service_config(None).await;
    until_config(&channel, None).await;
}

#[tokio::test]
async fn the_config_stays_while_the_registry_is_out_of_reach() {
    let stage = Stage::new();
    let _servers = [stage.server("a").await, stage.server("b").await];
    stage.put_service_config(Some(PICK_FIRST)).await;
    let channel = stage.builder().build().unwrap();
    until_config(&channel, Some(PICK_FIRST)).await;
    stage.board.faults(|faults| faults.down = Some(Error::new(ErrorKind::Unavailable, "connection refused")));
    until("the registry is out of reach", || channel.stale().is_some()).await;
    assert_eq!(channel.service_config().active.as_deref(), Some(PICK_FIRST));
    assert_eq!(shares(&channel, 20).await.len(), 1);
    // The channel hears of what has happened meanwhile.
    stage.board.put(&stage.service, CONFIG_NAME, None);
    assert_eq!(channel.service_config().active.as_deref(), Some(PICK_FIRST));
    stage.board.faults(|faults| faults.down = None);
    until_config(&channel, None).await;
}

#[tokio::test]
async fn a_config_of_a_service_that_nobody_serves_is_in_force_too() {
    let stage = Stage::new();
    stage.put_service_config(Some(PICK_FIRST)).await;
    let channel = stage.builder().build().unwrap();
    until_config(&channel, Some(PICK_FIRST)).await;
    let (_server, _a) = stage.server("a").await;
    channel.wait_ready(Duration::from_secs(20)).await.unwrap();
    assert_eq!(channel.service_config().balancer, "pick_first");
}

#[tokio::test]
async fn what_no_channel_could_read_is_not_put() {
    let url = "file:///project/test?root=/nonexistent";
    let error = put_service_config(url, Some(r#"{"methodConfig": [{"timeout": 1}]}"#)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("methodConfig[0].timeout"), "{error}");
    for (url, kind) in [
        ("memory:///project/test", ErrorKind::Unsupported),
        ("file:///project/test?balancr=weighted", ErrorKind::Invalid),
        ("no URL", ErrorKind::Invalid),
    ] {
        assert_eq!(put_service_config(url, None).await.unwrap_err().kind(), kind, "{url}");
    }
}
