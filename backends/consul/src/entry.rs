//! An instance as Consul stores it, in Consul's own fields.

use std::collections::BTreeMap;

use callboard_core::{Address, Error, Incarnation, Instance, InstanceKind, Result, Service};
use serde::{Deserialize, Serialize};

use crate::checks::{Check, Checks};
use crate::meta::{self, held_weight};
use crate::names::{entry_id, instance_id, listed_name};

/// An entry as the agent is told of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Registration<'a> {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    name: String,
    tags: &'a [String],
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

impl<'a> Registration<'a> {
    /// # Errors
    /// `Invalid`, if the instance has something that Consul cannot hold or check.
    pub(crate) fn new(
        service: &Service,
        instance: &'a Instance,
        tags: &'a [String],
        checks: &Checks,
        claim: &str,
    ) -> Result<Self> {
        let id = entry_id(service, &instance.id);
        let (address, port, socket_path) = match &instance.address {
            Address::Tcp { host, port, .. } => (Some(host.as_str()), Some(*port), None),
            Address::Unix(path) => (None, None, path.to_str()),
            other => return Err(Error::invalid(format!("address {other}: Consul holds host:port and unix:/path"))),
        };
        Ok(Self {
            name: listed_name(service),
            tags,
            address,
            port,
            socket_path,
            weights: Weights { passing: held_weight(instance.weight).into(), warning: Some(1) },
            meta: meta::meta(service, instance, claim)?,
            checks: checks.of(&id, claim, &instance.address)?,
            id,
        })
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    passing: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<i64>,
}

/// An entry as the catalog lists it, whoever has registered it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Row {
    pub(crate) node: Node,
    pub(crate) service: ServiceRow,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Node {
    #[serde(rename = "Node")]
    pub(crate) name: String,
    #[serde(default)]
    address: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ServiceRow {
    #[serde(rename = "ID")]
    pub(crate) id: String,
    #[serde(rename = "Service")]
    name: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    port: i64,
    #[serde(default)]
    socket_path: String,
    weights: Option<Weights>,
    meta: Option<BTreeMap<String, String>>,
}

impl ServiceRow {
    pub(crate) fn meta(&self, key: &str) -> Option<&str> {
        self.meta.as_ref()?.get(key).map(String::as_str)
    }

    /// When the process of the instance was started. None if nobody has said so, or not as a number.
    pub(crate) fn incarnation(&self) -> Option<Incarnation> {
        self.meta(meta::INCARNATION)?.parse().ok().map(Incarnation::from_micros)
    }

    /// Whether it is an entry of this service, and not of one that Consul lists under the same name.
    pub(crate) fn is_of(&self, service: &Service) -> bool {
        self.meta(meta::SERVICE).unwrap_or(&self.name) == service.as_str()
    }

    fn weight(&self) -> Result<u32> {
        let passing = self.weights.map_or(1, |weights| weights.passing);
        let held = u32::try_from(passing.max(0)).unwrap_or(u32::MAX);
        let Some(exact) = self.meta(meta::WEIGHT) else { return Ok(held) };
        let exact = exact.parse().map_err(|_| unreadable(meta::WEIGHT, exact))?;
        // If another tool has changed the weight since, what that tool says counts.
        Ok(if held_weight(exact) == held { exact } else { held })
    }

    fn kind(&self) -> Result<InstanceKind> {
        match self.meta(meta::KIND) {
            None => Ok(InstanceKind::Backend),
            Some(meta::BALANCER) => Ok(InstanceKind::Balancer),
            Some(other) => Err(unreadable(meta::KIND, other)),
        }
    }
}

fn unreadable(key: &str, value: &str) -> Error {
    Error::invalid(format!("Meta {key:?} is {value:?}, which this callboard cannot read"))
}

impl Row {
    /// The instance that the entry stands for.
    ///
    /// # Errors
    /// `Invalid`, if it cannot be reached as it stands there, or callboard's own part of it is not as it should be.
    pub(crate) fn instance(&self, service: &Service) -> Result<Instance> {
        let (row, address) = (&self.service, self.address()?);
        // Another tool may have ids that are none here; the address tells its instances apart.
        let id = instance_id(service, &row.id).unwrap_or_else(|| row.id.clone());
        let named = Instance::new(id, address.clone()).or_else(|_| Instance::at(address))?;
        let incarnation = match row.meta(meta::INCARNATION) {
            Some(text) => row.incarnation().ok_or_else(|| unreadable(meta::INCARNATION, text))?,
            None => Incarnation::from_micros(0),
        };
        let mut instance = named.weight(row.weight()?).kind(row.kind()?).incarnation(incarnation);
        instance.zone = row.meta(meta::ZONE).map(ToOwned::to_owned);
        let pairs = row.meta.iter().flatten();
        let others = pairs.filter(|(key, _)| *key != meta::ZONE && !key.starts_with(meta::OURS));
        instance.metadata = others.map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok(instance)
    }

    fn address(&self) -> Result<Address> {
        let row = &self.service;
        if !row.socket_path.is_empty() {
            return Address::unix(&row.socket_path);
        }
        let host = if row.address.is_empty() { &self.node.address } else { &row.address };
        let port = u16::try_from(row.port);
        Address::tcp(host.as_str(), port.map_err(|_| Error::invalid(format!("port {} is none", row.port)))?)
    }
}
