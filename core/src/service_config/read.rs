//! From JSON to a service config.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::methods::{Covers, Methods};
use super::object::Object;
use super::retry::{Policy, Throttling};
use super::{MethodConfig, PolicyConfig, ServiceConfig};
use crate::proto_duration::deserialize_proto_duration;
use crate::{Error, Result};

/// How many characters of a path and of a message are kept. They quote what was read, and that can be long.
const LONGEST: usize = 200;

/// The config as it stands in the registry.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    load_balancing_config: Option<Vec<PolicyConfig>>,
    load_balancing_policy: Option<String>,
    method_config: Option<Vec<Object<Entry>>>,
    retry_throttling: Option<Object<Throttling>>,
    health_check_config: Option<Object<HealthCheck>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    name: Option<Vec<Object<Name>>>,
    timeout: Option<Timeout>,
    wait_for_ready: Option<bool>,
    retry_policy: Option<Object<Policy>>,
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
    Ok(ServiceConfig {
        load_balancing: load_balancing_config.unwrap_or_else(|| deprecated(load_balancing_policy)),
        retry_throttling: document.retry_throttling.map(|Object(throttling)| throttling.into()),
        health_check: document.health_check_config.and_then(|Object(health)| health.service_name),
        methods: Arc::new(methods(method_config.unwrap_or_default()).map_err(|why| refused(&why))?),
    })
}

/// Before `loadBalancingConfig` there were names alone, in upper or lower case.
fn deprecated(policy: Option<String>) -> Vec<PolicyConfig> {
    let name = policy.map(|policy| policy.to_ascii_lowercase()).filter(|name| !name.is_empty());
    name.map(PolicyConfig::new).into_iter().collect()
}

fn methods(entries: Vec<Object<Entry>>) -> Result<Methods, String> {
    let mut methods = Methods::default();
    for (index, Object(entry)) in entries.into_iter().enumerate() {
        let config = Arc::new(MethodConfig {
            timeout: entry.timeout.map(|Timeout(timeout)| timeout),
            wait_for_ready: entry.wait_for_ready,
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

/// Reads JSON; what is wrong is said with the path of the field.
pub(super) fn from_text<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_str(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| said(&error))?;
    json.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// The path of the field that could not be read, as far as it is known, and why.
pub(super) fn said<E: fmt::Display>(error: &serde_path_to_error::Error<E>) -> String {
    let (path, why) = (error.path().to_string(), error.inner());
    match path.trim_end_matches(['.', '?']) {
        "" => shortened(why.to_string()),
        path => format!("{}: {}", shortened(path.to_owned()), shortened(why.to_string())),
    }
}

fn refused(why: &str) -> Error {
    Error::invalid(format!("service config: {why}"))
}

fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
    text
}
