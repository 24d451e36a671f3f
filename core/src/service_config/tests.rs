use std::time::Duration;

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::{Code, ErrorKind};

fn parse(json: &Value) -> ServiceConfig {
    ServiceConfig::parse(json.to_string().as_bytes()).unwrap_or_else(|error| panic!("{json}: {error}"))
}

/// The message of the refusal, without what all have in common.
fn refusal(stored: &[u8]) -> String {
    let error = ServiceConfig::parse(stored).expect_err("a config that cannot be read");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    error.to_string().strip_prefix("service config: ").expect("it says what could not be read").to_owned()
}

#[test]
fn all_that_is_known_is_read() {
    let config = parse(&json!({
        "loadBalancingConfig": [{"their_own": {"a": [1, {"b": null}]}}, {"round_robin": {}}, {"pick_first": null}],
        "loadBalancingPolicy": "ROUND_ROBIN",
        "methodConfig": [{
            "name": [{"service": "s.S", "method": "M"}],
            "timeout": "1.5s",
            "waitForReady": true,
            "maxRequestMessageBytes": 1,
            "maxResponseMessageBytes": 5_000_000_000_u64,
            "retryPolicy": {
                "maxAttempts": 3, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", 10, "CANCELLED"],
            },
        }],
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.0299},
        "healthCheckConfig": {"serviceName": "s"},
        "unknown": [{}, "1s", 1e300],
    }));
    let names: Vec<_> = config.load_balancing.iter().map(|policy| &*policy.name).collect();
    assert_eq!(names, ["their_own", "round_robin", "pick_first"]);
    assert_eq!(
        config.load_balancing[0].settings,
        BalancerSettings::parse("their_own", r#"{"a":[1,{"b":null}]}"#).expect("an object")
    );
    assert_eq!(config.load_balancing[2], PolicyConfig::new("pick_first"));
    let codes = vec![Code::Unavailable, Code::Aborted, Code::Cancelled];
    let retry = RetryPolicy::new(3, Duration::from_millis(100), Duration::from_secs(1), 2.0, codes);
    let method = config.method("/s.S/M").expect("a config for it");
    let expected = MethodConfig {
        timeout: Some(Duration::from_millis(1500)),
        wait_for_ready: Some(true),
        max_request_message_bytes: Some(1),
        max_response_message_bytes: Some(5_000_000_000),
        retry: Some(retry),
    };
    assert_eq!(*method, expected);
    assert_eq!(config.retry_throttling, Some(RetryThrottling::new(10.0, 0.029)), "in thousandths, the rest is cut off");
    assert_eq!(config.health_check.as_deref(), Some("s"));
}

#[test]
fn what_is_absent_or_null_is_not_there() {
    let all = ["loadBalancingConfig", "loadBalancingPolicy", "methodConfig", "retryThrottling", "healthCheckConfig"];
    let nulls = all.map(|field| (field.to_owned(), Value::Null));
    for config in [json!({}), Value::Object(nulls.into_iter().collect()), json!({"methodConfig": [{"timeout": "1s"}]})]
    {
        let config = parse(&config);
        assert_eq!(config, ServiceConfig::default());
        assert!(!config.has_methods() && config.method("/s/m").is_none());
    }
    let nulls = json!({"methodConfig": [{"name": [{}], "timeout": null, "waitForReady": null, "retryPolicy": null}]});
    assert_eq!(parse(&nulls).method("/s/m"), Some(&MethodConfig::default()));
}

#[test]
fn the_deprecated_policy_counts_if_there_is_no_list() {
    let chosen = |config: Value| parse(&config).load_balancing;
    assert_eq!(chosen(json!({"loadBalancingPolicy": "PICK_FIRST"})), [PolicyConfig::new("pick_first")]);
    assert_eq!(chosen(json!({"loadBalancingPolicy": "pick_first", "loadBalancingConfig": []})), []);
    assert_eq!(chosen(json!({"loadBalancingPolicy": ""})), []);
}

#[test]
fn the_method_comes_before_its_service_and_that_before_all() {
    let entry = |name: Value, seconds: u64| json!({"name": name, "timeout": format!("{seconds}s")});
    let config = parse(&json!({"methodConfig": [
        entry(json!([{"service": "a", "method": "x"}, {"service": "b", "method": "y"}]), 1),
        entry(json!([{"service": "a"}, {"service": "c", "method": ""}]), 2),
        entry(json!([{"service": ""}]), 3),
    ]}));
    let seconds = |path| config.method(path).and_then(|method| method.timeout).map(|timeout| timeout.as_secs());
    for (path, expected) in
        [("/a/x", 1), ("/b/y", 1), ("/a/z", 2), ("/c/x", 2), ("/b/x", 3), ("/d/x", 3), ("/", 3), ("", 3), ("a/x", 3)]
    {
        assert_eq!(seconds(path), Some(expected), "{path}");
    }
    assert!(parse(&json!({"methodConfig": [entry(json!([{"service": "a"}]), 1)]})).method("/b/x").is_none());
}

/// The config of grpc-go's example of retries, as it stands there.
#[test]
fn what_grpc_go_reads_is_read() {
    let go = br#"{
        "methodConfig": [{
          "name": [{"service": "grpc.examples.echo.Echo"}],
          "retryPolicy": {
              "MaxAttempts": 4,
              "InitialBackoff": ".01s",
              "MaxBackoff": ".01s",
              "BackoffMultiplier": 1.0,
              "RetryableStatusCodes": [ "UNAVAILABLE" ]
          }
        }]}"#;
    let config = ServiceConfig::parse(go).expect("grpc-go reads it");
    let (wait, codes) = (Duration::from_millis(10), vec![Code::Unavailable]);
    let retry = config.method("/grpc.examples.echo.Echo/UnaryEcho").and_then(|method| method.retry.as_ref());
    assert_eq!(retry, Some(&RetryPolicy::new(4, wait, wait, 1.0, codes)));

    let shouted = json!({"METHODCONFIG": [{"NAME": [{"SERVICE": "s"}], "TIMEOUT": "1.s"}]});
    assert_eq!(parse(&shouted).method("/s/m").and_then(|method| method.timeout), Some(Duration::from_secs(1)));
    let twice = refusal(br#"{"methodConfig": [], "MethodConfig": []}"#);
    assert!(twice.contains("duplicate field `methodConfig`"), "{twice}");
    let wrong = refusal(br#"{"MethodConfig": [{"Timeout": 1}]}"#);
    assert!(wrong.starts_with("MethodConfig[0].Timeout: invalid type"), "it is named as it is written: {wrong}");
}

#[test]
fn what_has_a_meaning_to_grpc_and_is_not_obeyed_is_named() {
    let mut config = with_retry("perAttemptRecvTimeout", json!("1s"));
    let hedged = json!({"name": [{"service": "s"}], "hedgingPolicy": {"maxAttempts": 3}});
    config["methodConfig"].as_array_mut().expect("a list").push(hedged);
    config["healthCheckConfig"] = json!({"serviceName": ""});
    config["connectionScaling"] = json!({"maxConnectionsPerSubchannel": 2});
    config["unknown"] = json!({"a": 1});
    let expected = [
        "healthCheckConfig",
        "connectionScaling",
        "methodConfig[0].retryPolicy.perAttemptRecvTimeout",
        "methodConfig[1].hedgingPolicy",
    ];
    assert_eq!(parse(&config).not_obeyed, expected);
    assert_eq!(parse(&json!({"methodConfig": [{"hedgingPolicy": null}]})).not_obeyed, [""; 0]);
}

#[test]
fn what_no_call_can_meet_is_named_and_taken() {
    let config = parse(&json!({"methodConfig": [
        {"name": [{"service": "s"}], "timeout": "0.001s", "maxRequestMessageBytes": 1},
        {"name": [{"service": "t"}], "timeout": "0s", "maxRequestMessageBytes": 0},
        {"name": [{"service": "u"}], "timeout": "0.000000001s", "maxResponseMessageBytes": 0},
    ]}));
    let expected = [
        "methodConfig[1].timeout",
        "methodConfig[1].maxRequestMessageBytes",
        "methodConfig[2].timeout",
        "methodConfig[2].maxResponseMessageBytes",
    ];
    assert_eq!(config.fails_calls, expected);
    assert_eq!(config.method("/t/m").and_then(|method| method.timeout), Some(Duration::ZERO));
}

#[test]
fn more_than_five_attempts_count_as_five() {
    for attempts in [2, 5, 6, 1_000_000] {
        let retry = parse(&with_retry("maxAttempts", json!(attempts))).method("/s/m").and_then(|m| m.retry.clone());
        assert_eq!(retry.map(|retry| u64::from(retry.max_attempts)), Some(attempts.min(5)));
    }
}

/// A config with a retry policy that is right but for this field.
fn with_retry(field: &str, value: Value) -> Value {
    let mut policy = json!({
        "maxAttempts": 2, "initialBackoff": "1s", "maxBackoff": "1s", "backoffMultiplier": 0.5,
        "retryableStatusCodes": [14],
    });
    policy[field] = value;
    json!({"methodConfig": [{"name": [{}], "retryPolicy": policy}]})
}

#[test]
fn what_is_known_and_wrong_is_named_by_its_path() {
    let lb = |list: Value| json!({"loadBalancingConfig": list});
    let method = |entry: Value| json!({"methodConfig": [{"name": [{"service": "a"}]}, entry]});
    let throttling =
        |tokens: Value, ratio: Value| json!({"retryThrottling": {"maxTokens": tokens, "tokenRatio": ratio}});
    let mut both = with_retry("maxAttempts", json!(4));
    both["methodConfig"][0]["hedgingPolicy"] = json!({"maxAttempts": 3});
    let cases = [
        (json!([]), "invalid type: sequence, expected an object"),
        (json!([null, null, null, null, null]), "invalid type: sequence"),
        (json!("{}"), "invalid type: string"),
        (lb(json!({})), "loadBalancingConfig: invalid type: map"),
        (lb(json!([{"a": {}}, {}])), "loadBalancingConfig[1]: an object of one key"),
        (lb(json!([{"a": {}, "b": {}}])), "loadBalancingConfig[0]: an object of one key"),
        (lb(json!([{"a": 1}])), "loadBalancingConfig[0]: the settings of balancer \"a\" are no object"),
        (lb(json!(["a"])), "loadBalancingConfig[0]: invalid type: string"),
        (json!({"loadBalancingPolicy": {}}), "loadBalancingPolicy: invalid type"),
        (json!({"methodConfig": {}}), "methodConfig: invalid type"),
        (json!({"methodConfig": [null]}), "methodConfig[0]: invalid type: null, expected an object"),
        (method(json!({"timeout": "-1s"})), "methodConfig[1].timeout: \"-1s\" is no length of time"),
        (method(json!({"timeout": 1})), "methodConfig[1].timeout: invalid type: integer `1`"),
        (method(json!({"timeout": "999999999999999999999s"})), "methodConfig[1].timeout: "),
        (method(json!({"waitForReady": "true"})), "methodConfig[1].waitForReady: invalid type"),
        (method(json!({"name": {}})), "methodConfig[1].name: invalid type"),
        (method(json!({"name": [["s", "m"]]})), "methodConfig[1].name[0]: invalid type: sequence"),
        (method(json!({"name": [{"service": 1}]})), "methodConfig[1].name[0].service: invalid type"),
        (method(json!({"name": [{"method": "m"}]})), "methodConfig[1].name[0]: a method without its service"),
        (method(json!({"name": [{"service": "b"}, {"service": "a"}]})), "methodConfig[1].name[1]: there is a config"),
        (method(json!({"name": [{}, {"service": ""}]})), "methodConfig[1].name[1]: there is a config"),
        (method(json!({"retryPolicy": []})), "methodConfig[1].retryPolicy: invalid type: sequence"),
        (method(json!({"retryPolicy": {}})), "methodConfig[1].retryPolicy: missing field `maxAttempts`"),
        (with_retry("maxAttempts", json!(1)), "methodConfig[0].retryPolicy.maxAttempts: 1 attempts"),
        (with_retry("maxAttempts", json!(-3)), "methodConfig[0].retryPolicy.maxAttempts: invalid value"),
        (with_retry("maxAttempts", json!(2.5)), "methodConfig[0].retryPolicy.maxAttempts: invalid type"),
        (with_retry("initialBackoff", json!("0s")), "methodConfig[0].retryPolicy.initialBackoff: a backoff is above 0"),
        (with_retry("maxBackoff", json!("0.000s")), "methodConfig[0].retryPolicy.maxBackoff: a backoff is above 0"),
        (with_retry("maxBackoff", json!(null)), "methodConfig[0].retryPolicy.maxBackoff: invalid type: null"),
        (with_retry("backoffMultiplier", json!(0)), "methodConfig[0].retryPolicy.backoffMultiplier: 0 is not above 0"),
        (with_retry("retryableStatusCodes", json!([])), "methodConfig[0].retryPolicy.retryableStatusCodes: at least"),
        (
            with_retry("retryableStatusCodes", json!([14, "unavailable"])),
            "methodConfig[0].retryPolicy.retryableStatusCodes[1]: \"unavailable\" is no status code",
        ),
        (with_retry("retryableStatusCodes", json!([17])), "methodConfig[0].retryPolicy.retryableStatusCodes[0]: 17 is"),
        (with_retry("retryableStatusCodes", json!([-1])), "methodConfig[0].retryPolicy.retryableStatusCodes[0]: -1 is"),
        (with_retry("retryableStatusCodes", json!(["OK"])), "methodConfig[0].retryPolicy.retryableStatusCodes[0]: OK"),
        (throttling(json!(0), json!(1)), "retryThrottling.maxTokens: 0 is not above 0"),
        (throttling(json!(1000.5), json!(1)), "retryThrottling.maxTokens: 1000.5 is not"),
        (throttling(json!(1000), json!(0.0009)), "retryThrottling.tokenRatio: 0.0009 is not"),
        (throttling(json!(1000), json!(-1)), "retryThrottling.tokenRatio: -1 is not"),
        (throttling(json!(1000), json!(null)), "retryThrottling.tokenRatio: invalid type: null"),
        (method(json!({"maxRequestMessageBytes": -1})), "methodConfig[1].maxRequestMessageBytes: invalid value"),
        (method(json!({"maxResponseMessageBytes": "10"})), "methodConfig[1].maxResponseMessageBytes: invalid type"),
        (both, "methodConfig[0]: retryPolicy and hedgingPolicy exclude each other"),
        (json!({"healthCheckConfig": {"serviceName": 1}}), "healthCheckConfig.serviceName: invalid type"),
        (json!({"healthCheckConfig": []}), "healthCheckConfig: invalid type: sequence"),
    ];
    for (config, expected) in cases {
        let said = refusal(config.to_string().as_bytes());
        assert!(said.starts_with(expected), "{config}: {said}");
    }
}

#[test]
fn what_is_no_json_is_refused() {
    let huge = format!("{{\"retryThrottling\": {{\"maxTokens\": 1{}}}}}", "0".repeat(400));
    let deep = format!("{{\"unknown\": {}", "[".repeat(1_000_000));
    let in_settings = format!("{{\"loadBalancingConfig\": [{{\"a\": {{\"b\": {}", "{\"c\":".repeat(1_000_000));
    let long = format!("{{\"methodConfig\": [{{\"timeout\": \"{}\"}}]}}", "☎".repeat(1_000_000));
    let cases: [(&[u8], &str); 12] = [
        (b"", "EOF"),
        (b"{", "EOF"),
        (b"{} {}", "trailing characters"),
        (b"{\"a\": 1,}", "trailing comma"),
        (b"// a comment\n{}", "expected value"),
        (b"{\"a\": \"\xff\"}", "not UTF-8"),
        (b"\xff\xfe{\0}\0", "not UTF-8"),
        (b"{\"healthCheckConfig\": {}, \"healthCheckConfig\": {}}", "duplicate field `healthCheckConfig`"),
        (huge.as_bytes(), "retryThrottling.maxTokens: number out of range"),
        (deep.as_bytes(), "unknown: EOF while parsing a list"),
        (in_settings.as_bytes(), ": recursion limit exceeded"),
        (long.as_bytes(), "methodConfig[0].timeout: \"☎☎"),
    ];
    for (stored, expected) in cases {
        let said = refusal(stored);
        assert!(said.contains(expected), "{expected}: {said}");
        assert!(said.chars().count() <= 500, "{} characters", said.chars().count());
    }
}

#[test]
fn megabytes_are_read() {
    let entry = |index: usize| json!({"name": [{"service": format!("package.Service{index}")}], "timeout": "1s"});
    let stored = json!({"methodConfig": (0..50_000).map(entry).collect::<Vec<_>>(), "note": "x".repeat(1 << 20)});
    let config = parse(&stored);
    assert!(config.method("/package.Service49999/M").is_some() && config.method("/package.Service50000/M").is_none());
}

#[test]
fn settings_that_cannot_be_read_are_named_by_balancer_and_field() {
    #[derive(Debug, Deserialize)]
    struct Settings {
        inner: Inner,
    }
    #[derive(Debug, Deserialize)]
    struct Inner {
        list: Vec<u8>,
    }
    let read = |json| BalancerSettings::parse("mine", json).and_then(|settings| settings.read::<Settings>());
    assert_eq!(read(r#"{"inner": {"list": [1, 2]}, "other": 1}"#).expect("settings").inner.list, [1, 2]);
    assert_eq!(read(r#"{"Inner": {"list": [3]}}"#).expect("the name of a field in any case").inner.list, [3]);
    for (json, expected) in [
        (r#"{"inner": {"list": [1, 256]}}"#, "inner.list[1]: invalid value: integer `256`, expected u8"),
        ("{}", "missing field `inner`"),
        ("[]", "invalid type: sequence"),
        ("{", "EOF"),
    ] {
        let error = read(json).expect_err("settings that are wrong");
        let said = error.to_string();
        assert!(said.starts_with(&format!("settings of balancer \"mine\": {expected}")), "{said}");
    }
}

/// JSON that a service config could be, or nearly: the known keys, at any place.
fn almost() -> impl Strategy<Value = Value> {
    let keys = || {
        prop::sample::select(vec![
            "loadBalancingConfig",
            "loadBalancingPolicy",
            "methodConfig",
            "name",
            "service",
            "method",
            "timeout",
            "waitForReady",
            "WaitForReady",
            "maxRequestMessageBytes",
            "hedgingPolicy",
            "retryPolicy",
            "maxAttempts",
            "initialBackoff",
            "maxBackoff",
            "backoffMultiplier",
            "retryableStatusCodes",
            "retryThrottling",
            "maxTokens",
            "tokenRatio",
            "healthCheckConfig",
            "serviceName",
        ])
    };
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec!["1s", "0s", "0.5s", "UNAVAILABLE", "round_robin", ""]).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keys().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Looks into whatever was read, as a channel would: within its bounds, all of it.
fn hold(config: &ServiceConfig) {
    let _ = config.method("/s/m");
    if let Some(throttling) = config.retry_throttling {
        assert!(throttling.max_tokens > 0.0 && throttling.max_tokens <= 1000.0 && throttling.token_ratio >= 0.001);
    }
    for retry in config.methods.all().filter_map(|method| method.retry.as_ref()) {
        assert!((2..=5).contains(&retry.max_attempts) && !retry.retryable_codes.is_empty());
        assert!(!retry.initial_backoff.is_zero() && !retry.max_backoff.is_zero() && retry.backoff_multiplier > 0.0);
    }
}

proptest! {
    #[test]
    fn whatever_bytes_stand_there_nothing_panics(stored: Vec<u8>) {
        if let Ok(config) = ServiceConfig::parse(&stored) {
            hold(&config);
        }
    }

    #[test]
    fn whatever_stands_at_the_known_fields_nothing_panics(value in almost(), cut: prop::sample::Index) {
        let stored = value.to_string();
        if let Ok(config) = ServiceConfig::parse(stored.as_bytes()) {
            hold(&config);
        }
        let cut = cut.index(stored.len() + 1);
        let _ = ServiceConfig::parse(&stored.as_bytes()[..cut]);
    }

    #[test]
    fn unknown_fields_change_nothing(value in almost(), field in "[a-z]{1,4}_x") {
        let mut config = with_retry("maxAttempts", json!(4));
        let plain = parse(&config);
        for pointer in ["", "/methodConfig/0", "/methodConfig/0/name/0", "/methodConfig/0/retryPolicy"] {
            config.pointer_mut(pointer).expect("it is there")[&field] = value.clone();
        }
        prop_assert_eq!(parse(&config), plain);
    }

    #[test]
    fn lookup_takes_the_closest_of_those_that_are_there(
        entries in prop::collection::btree_set((0..3_usize, 0..3_usize), 0..6), service in 1..3_usize, method in 1..3_usize,
    ) {
        // 0 stands for "any".
        let name = |(service, method): &(usize, usize)| match (service, method) {
            (0, _) => json!({}),
            (service, 0) => json!({"service": format!("s{service}")}),
            (service, method) => json!({"service": format!("s{service}"), "method": format!("m{method}")}),
        };
        let known: std::collections::BTreeSet<_> =
            entries.into_iter().map(|(service, method)| (service, if service == 0 { 0 } else { method })).collect();
        let list: Vec<_> = known.iter().enumerate()
            .map(|(index, entry)| json!({"name": [name(entry)], "timeout": format!("{index}s")})).collect();
        let config = parse(&json!({"methodConfig": list}));
        let expected = [(service, method), (service, 0), (0, 0)].iter()
            .find_map(|wanted| known.iter().position(|entry| entry == wanted)).map(|index| Duration::from_secs(index as u64));
        let found = config.method(&format!("/s{service}/m{method}")).map(|method| method.timeout.expect("each has one"));
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn a_field_that_is_nearly_a_known_one_is_named() {
    let misspelt = |text: &str| ServiceConfig::parse(text.as_bytes()).expect(text).misspelt;
    for (text, expected) in [
        (r#"{"methodConfg": []}"#, "methodConfg (methodConfig?)"),
        (r#"{"loadBalancingConfigs": []}"#, "loadBalancingConfigs (loadBalancingConfig?)"),
        (r#"{"method_config": []}"#, "method_config (methodConfig?)"),
        (r#"{"methodConfig": [{}, {"timeot": "1s"}]}"#, "methodConfig[1].timeot (timeout?)"),
        (r#"{"METHODCONFIG": [{"name": [{"servce": "a"}]}]}"#, "METHODCONFIG[0].name[0].servce (service?)"),
        (r#"{"healthCheckConfig": {"servicename_": "x"}}"#, "healthCheckConfig.servicename_ (serviceName?)"),
    ] {
        assert_eq!(misspelt(text), [expected], "{text}");
    }
    for fine in [
        "{}",
        // In any case it is read.
        r#"{"methodconfig": [{"WaitForReady": true}], "retryThrottling": null}"#,
        r#"{"comment": "x", "methodConfig": [{"note": 1}]}"#,
        // A balancer reads its own settings.
        r#"{"loadBalancingConfig": [{"mine": {"timeot": 1}}]}"#,
    ] {
        assert_eq!(misspelt(fine), [""; 0], "{fine}");
    }
    let many = vec![r#"{"timeot": 1}"#; 100].join(",");
    assert_eq!(misspelt(&format!(r#"{{"methodConfig": [{many}]}}"#)).len(), 16, "there may be any number");
}
