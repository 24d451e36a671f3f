//! An instance's entry, as it is registered.

use std::collections::BTreeMap;

use callboard_core::{Error, Instance, Result, ServiceName};
use serde::Serialize;

use super::checks::{Check, Checks};
use super::meta;
use super::names::{entry_id, listed_name};
use super::tags::Tags;
use super::weights::Weights;

/// An entry, as it is sent to the agent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Entry<'a> {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    name: String,
    tags: &'a Tags,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket_path: Option<&'a str>,
    weights: Weights,
    meta: BTreeMap<String, String>,
    checks: Vec<Check>,
}

impl<'a> Entry<'a> {
    /// # Errors
    /// `Invalid`, if the instance has something that no registry, or that Consul, can hold or check.
    pub(crate) fn new(
        service: &ServiceName,
        instance: &'a Instance,
        tags: &'a Tags,
        checks: &Checks,
        claim: &str,
    ) -> Result<Self> {
        let id = entry_id(service, instance.id());
        let at = instance.address();
        let (address, port, socket_path) = match (at.host_and_port(), at.unix_path()) {
            (Some((host, port)), _) => (Some(host), Some(port), None),
            (None, Some(path)) => (None, None, path.to_str()),
            _ => return Err(Error::invalid(format!("address {at}: Consul holds host:port and unix:/path"))),
        };
        Ok(Self {
            name: listed_name(service),
            tags,
            address,
            port,
            socket_path,
            weights: Weights::of(instance.weight()),
            meta: meta::meta(service, instance, claim)?,
            checks: checks.of(&id, claim, instance.address())?,
            id,
        })
    }

    /// Sets the status with which a gRPC check begins, if it is not there already.
    pub(crate) fn grpc_begins(&mut self, status: &'static str) {
        self.checks.iter_mut().for_each(|check| check.grpc_begins(status));
    }
}
