//! From a URL to a channel.

mod common;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use callboard::balancer::RoundRobin;
use callboard::{Balancer, Dialer, Error, ErrorKind, Members, Picker, dial};
use common::{PATIENCE, Stage, shares, until_ready};
use proptest::prelude::*;

/// Dialled in vain; the error.
async fn refused(dialer: &Dialer, url: &str) -> Error {
    dialer.dial(url).await.expect_err(url)
}

#[tokio::test]
async fn a_scheme_of_ones_own_is_given_the_target_and_its_options() {
    let stage = Stage::new();
    let _server = stage.server("a").await;
    let board = stage.board.clone();
    let seen = Arc::new(Mutex::new(None));
    let told = Arc::clone(&seen);
    let dialer = Dialer::new().scheme("wonamingv3", move |target, options| {
        *told.lock().unwrap() = Some((target.hosts().to_vec(), options.duration("ttl")?));
        Ok(Arc::new(board.clone()))
    });
    let channel = dialer.dial("wonamingv3://author/project/test?ttl=15s&wait_for_ready=true").await.unwrap();
    assert_eq!(channel.service().as_str(), "project/test");
    assert_eq!(shares(&channel, 10).await["a"], 10);
    assert_eq!(*seen.lock().unwrap(), Some((vec!["author".to_owned()], Some(Duration::from_secs(15)))));

    let error = refused(&dialer, "wonamingv3://author/project/test?tll=15s").await;
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let message = error.to_string();
    assert!(message.contains("\"tll\"") && message.contains("ttl") && message.contains("balancer"), "{message}");
}

#[tokio::test]
async fn every_balancer_is_found_by_its_name() {
    let stage = Stage::new();
    let _servers = [stage.weighted("a", 3).await, stage.weighted("b", 1).await];
    let dialer = Dialer::new().resolver("memory", stage.board.clone());
    for (query, ready, expected) in [
        ("", 2, 200),
        ("?balancer=round_robin", 2, 200),
        ("?balancer=weighted", 2, 300),
        ("?balancer=pick_first", 1, 400),
    ] {
        let channel = dialer.dial(&format!("memory:///project/test{query}")).await.unwrap();
        until_ready(&channel, ready).await;
        assert_eq!(shares(&channel, 400).await["a"], expected, "{query}");
    }
    dialer.dial("memory:///project/test?balancer=pick_first&shuffle").await.unwrap();
}

/// Round robin under another name.
#[derive(Debug)]
struct Mine;

impl Balancer for Mine {
    fn name(&self) -> &str {
        "mine"
    }

    fn picker(&self, ready: &Members) -> Box<dyn Picker> {
        RoundRobin::new().picker(ready)
    }
}

#[tokio::test]
async fn a_balancer_of_ones_own_is_found_by_its_name() {
    let stage = Stage::new();
    let _server = stage.server("a").await;
    let dialer = Dialer::new().resolver("memory", stage.board.clone()).balancer(Mine);
    let channel = dialer.dial("memory:///project/test?balancer=mine").await.unwrap();
    channel.wait_ready(PATIENCE).await.unwrap();
    assert_eq!(shares(&channel, 10).await["a"], 10);
}

#[tokio::test]
async fn what_is_not_known_is_refused_and_what_is_known_is_named() {
    let dialer = Dialer::new().resolver("board", Stage::new().board);
    for (url, kind, parts) in [
        ("etcdd://h/project/test", ErrorKind::Unsupported, ["\"etcdd\"", "board", "memory"]),
        ("board:///project/test?balancer=fastest", ErrorKind::Unsupported, ["\"fastest\"", "round_robin", "weighted"]),
        ("board:///project/test?balancer=weighted&shuffle", ErrorKind::Invalid, ["\"shuffle\"", "balancer", "timeout"]),
        ("board:///project/test?timeout=soon", ErrorKind::Invalid, ["\"timeout\"", "\"soon\"", "15s"]),
        (
            "board:///project/test?wait_for_ready=maybe",
            ErrorKind::Invalid,
            ["wait_for_ready", "maybe", "true or false"],
        ),
        ("board:///project/test?max_dials=0", ErrorKind::Invalid, ["max_dials", "\"0\"", "at least 1"]),
        ("board:///project/test?max_instances=many", ErrorKind::Invalid, ["max_instances", "many", "a whole number"]),
        (
            "board:///project/test?external_balancers=no",
            ErrorKind::Invalid,
            ["external_balancers", "no", "true or false"],
        ),
        ("board:///project//test", ErrorKind::Invalid, ["project//test", "empty segment", "path"]),
        ("board", ErrorKind::Invalid, ["board", "URL", "://"]),
        (
            "https://10.0.0.7:50051",
            ErrorKind::Unsupported,
            ["\"https\"", "board", "a URL names a registry and a service"],
        ),
        ("board://http://h:1/project/test", ErrorKind::Invalid, ["a second '://'", "host and port", "registry_tls"]),
        ("board://h:1", ErrorKind::Invalid, ["path", "names the service", "missing"]),
        ("memory:///project/test", ErrorKind::Unsupported, ["Dialer", "resolver", "memory registry"]),
    ] {
        let error = refused(&dialer, url).await;
        assert_eq!(error.kind(), kind, "{error}");
        for part in parts {
            assert!(error.to_string().contains(part), "{url}: no {part} in: {error}");
        }
    }
    let settings = "external_balancers=false&max_instances=100&max_dials=7";
    dialer.dial(&format!("board:///project/test?{settings}")).await.unwrap();
    assert_eq!(dial("nothing://h/s").await.expect_err("no such scheme").kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_channel_is_made_without_awaiting() {
    let stage = Stage::new();
    let _server = stage.server("a").await;
    let dialer = Dialer::new().resolver("memory", stage.board.clone());
    let channel = dialer.channel("memory:///project/test?wait_for_ready=true").unwrap();
    assert_eq!(shares(&channel, 10).await["a"], 10);
    assert_eq!(callboard::channel("nothing://h/s").expect_err("no such scheme").kind(), ErrorKind::Unsupported);
}

/// Every key that a client knows, by what an error about another key lists.
fn keys_of_a_client() -> Vec<String> {
    let dialer = Dialer::new().resolver("board", Stage::new().board);
    let error = dialer.builder("board:///a?balancer=pick_first&x").expect_err("an unknown key").to_string();
    let (_, known) = error.split_once("(known here: ").expect("the known keys are listed");
    known.trim_end_matches(')').split(", ").map(str::to_owned).collect()
}

#[test]
fn one_url_serves_both_sides() {
    let directory = tempfile::tempdir().unwrap();
    let url = |query: &str| format!("file:///project/test?root={}&{query}", directory.path().display());
    let keys = keys_of_a_client();
    assert!(keys.len() >= 9, "{keys:?}");
    for key in &keys {
        // What it says is for the client to check.
        callboard::registry(&url(&format!("{key}=what"))).unwrap_or_else(|error| panic!("{key}: {error}"));
        callboard::resolver(&url(&format!("{key}=what"))).unwrap_or_else(|error| panic!("{key}: {error}"));
    }
    let error = callboard::registry(&url("blancer=weighted")).expect_err("nobody's key").to_string();
    for part in keys.iter().map(String::as_str).chain(["\"blancer\"", "mode", "poll"]) {
        assert!(error.contains(part), "no {part} in: {error}");
    }
}

#[tokio::test]
async fn the_url_s_timeout_is_the_deadline_of_calls() {
    let stage = Stage::new();
    let dialer = Dialer::new().resolver("memory", stage.board.clone());
    let channel = dialer.dial("memory:///project/test?timeout=50ms&wait_for_ready").await.unwrap();
    let status = common::echo(&channel).unary(common::request()).await.expect_err("nobody is there");
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "{status}");
}

proptest! {
    #[test]
    fn any_text_is_dialled_or_refused_and_never_panics(url in "\\PC{0,80}|board://[a-z@:,]{0,20}/[a-z/]{0,20}\\?[a-z=&%]{0,30}") {
        let _ = Dialer::new().resolver("board", callboard::backend::Memory::default()).builder(&url);
    }
}
