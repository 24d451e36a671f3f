//! A service's config, as it stands in the registry: what is read of it, and what a channel does with it whose server
//! fails each call.
#![no_main]

use std::time::Duration;

use callboard::{CONFIG_NAME, Channel, ConfigStatus, MethodConfig, ServiceConfig};
use callboard_fuzz::{Field, SHORT, Stage, answer_calls, headers, paused, within};
use libfuzzer_sys::fuzz_target;
use tokio::time::{Instant, timeout};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

/// What every call ends within.
const DEADLINE: Duration = Duration::from_secs(400);
/// The most that a length of time can be.
const LONGEST: Duration = Duration::from_secs(315_576_000_000);
const METHODS: [&str; 5] = ["/a.B/C", "/a.B/", "/a.B/D", "/", ""];

fuzz_target!(|data: &[u8]| {
    within((4 << 20) + 200 * data.len(), || match ServiceConfig::parse(data) {
        Err(error) => {
            let said = error.chain();
            assert!(said.starts_with("service config: ") && said.len() <= SHORT, "{said:.500}");
        }
        Ok(config) => {
            parsed(&config, data.len());
            paused(used(data));
        }
    });
});

/// Whatever was accepted is within bounds.
fn parsed(config: &ServiceConfig, length: usize) {
    for path in config.not_obeyed.iter().chain(&config.fails_calls) {
        let known = ["methodConfig[", "healthCheckConfig", "connectionScaling"];
        assert!(known.iter().any(|known| path.starts_with(known)), "{path}");
    }
    assert!(config.misspelt.len() <= 16);
    assert!(config.load_balancing.len() <= length);
    if let Some(throttling) = config.retry_throttling {
        assert!(throttling.max_tokens > 0.0 && throttling.max_tokens <= 1000.0, "{throttling:?}");
        assert!(throttling.token_ratio > 0.0, "{throttling:?}");
    }
    let methods: Vec<_> = METHODS.iter().filter_map(|path| config.method(path)).collect();
    assert!(methods.is_empty() || config.has_methods());
    methods.into_iter().for_each(method);
}

fn method(method: &MethodConfig) {
    assert!(method.timeout.is_none_or(|timeout| timeout <= LONGEST), "{method:?}");
    let Some(retry) = &method.retry else { return };
    assert!((2..=5).contains(&retry.max_attempts), "{retry:?}");
    for wait in [retry.initial_backoff, retry.max_backoff] {
        assert!(!wait.is_zero() && wait <= LONGEST, "{retry:?}");
    }
    assert!(retry.backoff_multiplier > 0.0 && retry.backoff_multiplier.is_finite(), "{retry:?}");
    assert!(!retry.retryable_codes.is_empty() && !retry.retryable_codes.contains(&callboard::Code::Ok), "{retry:?}");
}

/// A channel that is under the config ends its calls in time, and takes another config after it.
async fn used(config: &[u8]) {
    let stage = Stage::new();
    stage.sign_in("a", "10.0.0.1:1", "backend");
    stage.sign_in("b", "10.0.0.2:1", "backend");
    stage.board.put(&stage.service, CONFIG_NAME, Some(config));
    let fails = |stream| headers(stream, true, &[Field::Status(200), Field::Grpc, Field::GrpcStatus(14)]);
    let builder = stage.builder(move |_, connection| answer_calls(connection, fails));
    let channel = builder.timeout(DEADLINE).build().expect("a channel");
    for path in &METHODS[..3] {
        call(&channel, path).await;
    }
    let ConfigStatus { active, rejected: refused, .. } = channel.service_config();
    match refused {
        // A balancer's settings are read by the channel alone.
        Some(error) => assert!(active.is_none() && error.chain().len() <= SHORT, "{:.500}", error.chain()),
        None => assert_eq!(active.as_deref().map(str::as_bytes), Some(config)),
    }
    stage.board.put(&stage.service, CONFIG_NAME, Some(b"{}"));
    call(&channel, METHODS[0]).await;
    stage.end(channel).await;
}

async fn call(channel: &Channel, path: &'static str) {
    let begun = Instant::now();
    let mut client = tonic::client::Grpc::new(channel.clone());
    let codec = ProstCodec::<String, String>::default();
    let call = client.unary(Request::new("text".to_owned()), PathAndQuery::from_static(path), codec);
    let status = timeout(DEADLINE + Duration::from_secs(1), call).await.expect("a call ends in time");
    let status = status.expect_err("the server fails each call");
    let codes = [Code::Unavailable, Code::DeadlineExceeded, Code::ResourceExhausted];
    assert!(codes.contains(&status.code()), "{status:?} after {:?}", begun.elapsed());
}
