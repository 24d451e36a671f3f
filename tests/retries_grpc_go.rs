//! Retries beside grpc-go's: under the same config, against servers that answer in the same way, both make the same
//! attempts and end with the same codes.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;
#[allow(dead_code, reason = "other tests use the rest")]
#[path = "common/grpc_go.rs"]
mod grpc_go;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use callboard::Channel;
use callboard_echo::pb::EchoRequest;
use callboard_raw::{Peer, RawServer, code};
use common::refusing::{Policy, QUICK, Refusing, pushback, unavailable};
use common::{Stage, echo, in_time};
use tonic::Status;

/// The client, built once for all tests.
async fn client() -> PathBuf {
    static BUILT: tokio::sync::OnceCell<PathBuf> = tokio::sync::OnceCell::const_new();
    let build = async || tokio::task::spawn_blocking(|| grpc_go::build("retry_client")).await.unwrap();
    BUILT.get_or_init(build).await.clone()
}

/// The codes that grpc-go's calls end with, one after the other.
async fn codes_of_grpc_go(server: SocketAddr, config: &str, calls: usize, size: usize) -> Vec<i32> {
    let arguments = [server.to_string(), config.to_owned(), calls.to_string(), size.to_string()];
    let mut command = tokio::process::Command::new(client().await);
    let output = in_time(command.args(arguments).kill_on_drop(true).output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|code| code.parse().unwrap()).collect()
}

async fn codes_of_callboard(channel: &Channel, calls: usize, size: usize) -> Vec<i32> {
    let mut codes = Vec::new();
    for _ in 0..calls {
        let request = EchoRequest { payload: vec![0; size], ..EchoRequest::default() };
        codes.push(match in_time(echo(channel).unary(request)).await {
            Ok(_) => 0,
            Err(status) => status.code() as i32,
        });
    }
    codes
}

/// Lets both make calls to servers that answer with these statuses, one after the other. What the server sees of the
/// attempts, and the codes of the calls, must be the same. Gives them.
async fn same(config: &str, calls: usize, statuses: &[Status]) -> (Vec<String>, Vec<i32>) {
    let stage = Stage::new();
    let server = Refusing::start(&stage, "go", statuses.iter().cloned()).await;
    let codes = codes_of_grpc_go(server.address(), config, calls, 4).await;
    let of_go = (server.previous(), codes);
    let stage = Stage::new();
    let server = Refusing::start(&stage, "callboard", statuses.iter().cloned()).await;
    stage.put_service_config(Some(config)).await;
    let channel = stage.channel(stage.builder(), 1).await;
    let codes = codes_of_callboard(&channel, calls, 4).await;
    assert_eq!((server.previous(), codes), of_go, "\n{config}\n{statuses:?}");
    of_go
}

#[tokio::test]
#[ignore = "needs Go: make test"]
async fn attempts_and_codes_are_those_of_grpc_go() {
    let (unavailable, aborted) = (unavailable(), Status::aborted("no"));
    for attempts in [2, 3, 5, 17] {
        same(&Policy { attempts, ..QUICK }.config(), 1, &vec![unavailable.clone(); 20]).await;
    }
    let both = Policy { codes: &["UNAVAILABLE", "ABORTED"], ..QUICK }.config();
    for config in [QUICK.config(), both, r#"{"methodConfig": []}"#.to_owned()] {
        same(&config, 1, &[unavailable.clone(), unavailable.clone()]).await;
        same(&config, 1, &[unavailable.clone(), aborted.clone(), unavailable.clone()]).await;
        same(&config, 1, std::slice::from_ref(&aborted)).await;
    }
}

#[tokio::test]
#[ignore = "needs Go: make test"]
async fn what_a_server_says_about_the_next_attempt_is_read_as_by_grpc_go() {
    let values: [&[&str]; 12] = [
        &["0"],
        &["15"],
        &["+5"],
        &["-0"],
        &["007"],
        &["-1"],
        &["soon"],
        &["1.5"],
        &[""],
        &["1 "],
        &["99999999999999999999"],
        &["0", "0"],
    ];
    let mut stopped = 0;
    for values in values {
        let (previous, _) = same(&QUICK.config(), 1, &[pushback(values), unavailable()]).await;
        stopped += usize::from(previous.len() == 1);
    }
    assert!((5..=7).contains(&stopped), "{stopped}");
}

#[tokio::test]
#[ignore = "needs Go: make test"]
async fn retries_stop_and_come_back_as_those_of_grpc_go() {
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    for (tokens, ratio) in [(3, 0.5), (6, 0.3), (10, 1.0)] {
        let rest = format!(r#", "retryThrottling": {{"maxTokens": {tokens}, "tokenRatio": {ratio}}}"#);
        let config = Policy { attempts: 3, ..QUICK }.config_with("{}", &rest);
        // Now and then most calls fail.
        let status = |call: usize| match fastrand::usize(..if (call / 30).is_multiple_of(2) { 4 } else { 20 }) {
            0 => unavailable(),
            1 => [Status::aborted("no"), pushback(&["-1"])][fastrand::usize(..2)].clone(),
            _ => Status::ok(""),
        };
        let statuses: Vec<_> = (0..300).map(status).collect();
        let (previous, codes) = same(&config, 200, &statuses).await;
        let retries = previous.iter().filter(|told| !told.is_empty()).count();
        println!("seed {seed}, {tokens} tokens: {retries} retries of {} calls", codes.len());
        assert!(retries > 0);
    }
}

/// The same as [`same`] with servers that meet every request with a fault, so many times over all their connections.
async fn same_with<F>(what: &str, config: &str, size: usize, faults: usize, fault: F)
where
    F: Fn(Peer, u32) -> Option<Peer> + Clone + Send + Sync + 'static,
{
    let start = async || {
        let (seen, fault) = (Arc::new(AtomicUsize::new(0)), fault.clone());
        let script = move |mut peer: Peer| {
            let (seen, fault) = (Arc::clone(&seen), fault.clone());
            async move {
                peer.settings(&[]);
                while let Some(request) = peer.request().await {
                    if seen.fetch_add(1, Ordering::SeqCst) >= faults {
                        peer.answer(request.stream, "a");
                        continue;
                    }
                    match fault(peer, request.stream) {
                        Some(same) => peer = same,
                        None => return,
                    }
                }
            }
        };
        RawServer::start(script).await.unwrap()
    };
    let server = start().await;
    let of_go = (codes_of_grpc_go(server.address(), config, 1, size).await, server.stats().requests);
    let (stage, server) = (Stage::new(), start().await);
    let _registration = stage.sign_in("a", server.address().try_into().unwrap(), 1).await;
    stage.put_service_config(Some(config)).await;
    let channel = stage.channel(stage.builder().backoff(common::quick()), 1).await;
    let ours = (codes_of_callboard(&channel, 1, size).await, server.stats().requests);
    println!("{what}: {ours:?}");
    assert_eq!(ours, of_go, "{what}: {config}");
}

#[tokio::test]
#[ignore = "needs Go: make test"]
async fn faults_below_the_status_are_met_as_by_grpc_go() {
    let codes = &["UNAVAILABLE", "RESOURCE_EXHAUSTED"];
    let policy = Policy { codes, initial: Duration::from_millis(5), ..QUICK };
    let config = policy.config();
    let after_head = |peer: Peer, stream| {
        peer.head(stream);
        peer.trailers(stream, "14");
        Some(peer)
    };
    same_with("a head, then a failure", &config, 4, 3, after_head).await;
    for (what, reset) in
        [("calm", code::ENHANCE_YOUR_CALM), ("an error", code::INTERNAL_ERROR), ("cancelled", code::CANCEL)]
    {
        let fault = move |peer: Peer, stream| {
            peer.reset(stream, reset);
            Some(peer)
        };
        same_with(what, &config, 4, 2, fault).await;
    }
    let refused = |peer: Peer, stream| {
        peer.reset(stream, code::REFUSED_STREAM);
        Some(peer)
    };
    for config in [&config, &Policy { codes: &["ABORTED"], ..QUICK }.config()] {
        for faults in 1..=6 {
            same_with("refused streams", config, 4, faults, refused).await;
        }
    }
    let foreign = |peer: Peer, stream| {
        peer.headers(stream, &[(":status", "503"), ("content-type", "text/html")], false);
        peer.data(stream, b"<p>too busy</p>", true);
        Some(peer)
    };
    same_with("a proxy's answer", &config, 4, 2, foreign).await;
    let refuse = |peer: Peer, stream| {
        peer.refuse(stream, "14");
        Some(peer)
    };
    for size in [1_000, 200_000, (256 << 10) - 64, 256 << 10, 300_000] {
        same_with("a large request", &config, size, 2, refuse).await;
    }
    let waiting = config.replacen(r#""name""#, r#""waitForReady": true, "name""#, 1);
    let cut = |peer: Peer, _| {
        peer.cut();
        None
    };
    for faults in [1, 2, 5] {
        same_with("a lost connection", &waiting, 4, faults, cut).await;
    }
}

/// The config of grpc-go's example of retries, and one that shouts.
#[tokio::test]
#[ignore = "needs Go: make test"]
async fn configs_are_read_as_grpc_go_reads_them() {
    let policy = r#""MaxAttempts": 4, "InitialBackoff": ".01s", "MaxBackoff": "0.s", "BackoffMultiplier": 1.0,
        "RetryableStatusCodes": [ "UNAVAILABLE" ]"#;
    let config = |policy: &str| {
        format!(
            r#"{{"METHODCONFIG": [{{"Name": [{{"SERVICE": "callboard.echo.v1.Echo"}}], "retrypolicy": {{{policy}}}}}]}}"#
        )
    };
    let example = config(&policy.replace("\"0.s\"", "\".01s\""));
    let (attempts, codes) = same(&example, 1, &vec![unavailable(); 20]).await;
    assert_eq!((attempts.len(), codes), (4, vec![14]));
    let (attempts, _) = same(&config(&policy.replace("\"0.s\"", "\"1.s\"")), 1, &[unavailable(), unavailable()]).await;
    assert_eq!(attempts.len(), 3);
}

#[tokio::test]
#[ignore = "needs Go: make test"]
async fn message_limits_end_calls_as_grpc_gos_do() {
    let stage = Stage::new();
    let (server, _a) = stage.server("a").await;
    for (field, limit) in
        [("maxRequestMessageBytes", 1_000), ("maxResponseMessageBytes", 1_000), ("maxRequestMessageBytes", 0)]
    {
        let config = format!(r#"{{"methodConfig": [{{"name": [{{}}], "{field}": {limit}}}]}}"#);
        let channel = stage.channel(stage.builder().default_service_config(&config), 1).await;
        let mut ends = std::collections::BTreeSet::new();
        for size in [1, 993, 994, 995, 996, 997, 998, 2_000, 100_000] {
            let before = server.calls();
            let of_go = codes_of_grpc_go(server.address(), &config, 1, size).await;
            let arrived = server.calls() - before;
            let ours = codes_of_callboard(&channel, 1, size).await;
            assert_eq!((&ours, server.calls() - before - arrived), (&of_go, arrived), "{config}, {size} bytes");
            ends.extend(ours);
        }
        let expected = if limit == 0 { &[8][..] } else { &[0, 8] };
        assert_eq!(ends.into_iter().collect::<Vec<_>>(), expected, "{config}");
    }
}
