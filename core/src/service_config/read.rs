//! From JSON to a service config.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::json::from_text;
use super::methods::{Covers, Methods};
use super::misspelt::{Shape, misspelt};
use super::object::Object;
use super::retry::{Policy, Throttling};
use super::{MethodConfig, PolicyConfig, ServiceConfig};
use crate::proto_duration::deserialize_proto_duration;
use crate::{Error, Result};

/// With a timeout below this no call can be answered.
const SHORTEST: Duration = Duration::from_micros(50);

/// The config as it is in the registry.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    load_balancing_config: Option<Vec<PolicyConfig>>,
    load_balancing_policy: Option<String>,
    method_config: Option<Vec<Object<Entry>>>,
    retry_throttling: Option<Object<Throttling>>,
    health_check_config: Option<Object<HealthCheck>>,
    /// Only whether it is there: it is not acted on.
    connection_scaling: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: Option<Vec<Object<Name>>>,
    timeout: Option<Timeout>,
    wait_for_ready: Option<bool>,
    max_request_message_bytes: Option<u64>,
    max_response_message_bytes: Option<u64>,
    retry_policy: Option<Object<Policy>>,
    /// Only whether it is there: it is not acted on.
    hedging_policy: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Timeout(#[serde(deserialize_with = "deserialize_proto_duration")] Duration);

#[derive(Deserialize)]
struct Name {
    service: Option<String>,
    method: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HealthCheck {
    service_name: Option<String>,
}

pub(super) fn read(stored: &[u8]) -> Result<ServiceConfig> {
    let text = std::str::from_utf8(stored).map_err(|error| refused(&format!("not UTF-8: {error}")))?;
    let Object(document): Object<Document> = from_text(text).map_err(|why| refused(&why))?;
    let Document { load_balancing_config, load_balancing_policy, method_config, .. } = document;
    let entries = method_config.unwrap_or_default();
    let health_check = document.health_check_config.and_then(|Object(health)| health.service_name);
    let scaling = document.connection_scaling.map(|_| "connectionScaling".to_owned());
    let health = health_check.as_ref().map(|_| "healthCheckConfig".to_owned());
    let not_obeyed = health.into_iter().chain(scaling).chain(not_obeyed(&entries)).collect();
    let fails_calls = fails_calls(&entries).collect();
    Ok(ServiceConfig {
        load_balancing: load_balancing_config.unwrap_or_else(|| deprecated(load_balancing_policy)),
        retry_throttling: document.retry_throttling.map(|Object(throttling)| throttling.into()),
        health_check,
        not_obeyed,
        fails_calls,
        misspelt: misspelt(text, &shape()),
        methods: Arc::new(methods(entries).map_err(|why| refused(&why))?),
    })
}

/// The fields of a config, but for the settings of balancers, which those read.
fn shape() -> Shape {
    let entry = Shape::of::<Entry>().with("name", Shape::of::<Name>()).with("retryPolicy", Shape::of::<Policy>());
    Shape::of::<Document>()
        .with("methodConfig", entry)
        .with("retryThrottling", Shape::of::<Throttling>())
        .with("healthCheckConfig", Shape::of::<HealthCheck>())
}

/// The paths of what gRPC gives a meaning to, in the methods' entries, and this does not act on.
fn not_obeyed(entries: &[Object<Entry>]) -> impl Iterator<Item = String> {
    entries.iter().enumerate().flat_map(|(index, Object(entry))| {
        let hedging = entry.hedging_policy.map(|_| format!("methodConfig[{index}].hedgingPolicy"));
        let bounded = entry.retry_policy.as_ref().is_some_and(|Object(policy)| policy.bounds_each_attempt());
        let receive = bounded.then(|| format!("methodConfig[{index}].retryPolicy.perAttemptRecvTimeout"));
        hedging.into_iter().chain(receive)
    })
}

/// The paths of settings in the methods' entries that no call can keep to.
fn fails_calls(entries: &[Object<Entry>]) -> impl Iterator<Item = String> {
    entries.iter().enumerate().flat_map(|(index, Object(entry))| {
        let at_once = |timeout: &Timeout| timeout.0 < SHORTEST;
        let hopeless = [
            ("timeout", entry.timeout.as_ref().is_some_and(at_once)),
            ("maxRequestMessageBytes", entry.max_request_message_bytes == Some(0)),
            ("maxResponseMessageBytes", entry.max_response_message_bytes == Some(0)),
        ];
        hopeless.into_iter().filter(|(_, is)| *is).map(move |(field, _)| format!("methodConfig[{index}].{field}"))
    })
}

/// `loadBalancingPolicy`, the older form: a name alone, in upper or lower case.
fn deprecated(policy: Option<String>) -> Vec<PolicyConfig> {
    let name = policy.map(|policy| policy.to_ascii_lowercase()).filter(|name| !name.is_empty());
    name.map(PolicyConfig::new).into_iter().collect()
}

fn methods(entries: Vec<Object<Entry>>) -> Result<Methods, String> {
    let mut methods = Methods::default();
    for (index, Object(entry)) in entries.into_iter().enumerate() {
        if entry.retry_policy.is_some() && entry.hedging_policy.is_some() {
            return Err(format!("methodConfig[{index}]: retryPolicy and hedgingPolicy exclude each other"));
        }
        let config = Arc::new(MethodConfig {
            timeout: entry.timeout.map(|Timeout(timeout)| timeout),
            wait_for_ready: entry.wait_for_ready,
            max_request_message_bytes: entry.max_request_message_bytes,
            max_response_message_bytes: entry.max_response_message_bytes,
            retry: entry.retry_policy.map(|Object(policy)| policy.into()),
        });
        for (place, Object(name)) in entry.name.into_iter().flatten().enumerate() {
            let path = format!("methodConfig[{index}].name[{place}]");
            let covers = name.covers().map_err(|why| format!("{path}: {why}"))?;
            if !methods.add(covers, Arc::clone(&config)) {
                return Err(format!("{path}: there is a config for this name already"));
            }
        }
    }
    Ok(methods)
}

impl Name {
    fn covers(self) -> Result<Covers, &'static str> {
        let Self { service, method } = self;
        match (service.unwrap_or_default().as_str(), method.unwrap_or_default().as_str()) {
            ("", "") => Ok(Covers::All),
            ("", _) => Err("a method without its service"),
            (service, method) => Ok(Covers::Named(format!("/{service}/{method}"))),
        }
    }
}

fn refused(why: &str) -> Error {
    Error::invalid(format!("service config: {why}"))
}
