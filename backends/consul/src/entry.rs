//! An instance as Consul stores it, in Consul's own fields.

use std::collections::BTreeMap;

use callboard_core::{Address, Error, Incarnation, Instance, InstanceKind, Result, ServiceName, short};
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
    /// `Invalid`, if the instance has something that no registry, or that Consul, can hold or check.
    pub(crate) fn new(
        service: &ServiceName,
        instance: &'a Instance,
        tags: &'a [String],
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
            weights: Weights { passing: held_weight(instance.weight()).into(), warning: Some(1) },
            meta: meta::meta(service, instance, claim)?,
            checks: checks.of(&id, claim, instance.address())?,
            id,
        })
    }

    /// With which status a gRPC check begins, if it is not there already.
    pub(crate) fn grpc_begins(&mut self, status: &'static str) {
        self.checks.iter_mut().for_each(|check| check.grpc_begins(status));
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    passing: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<i64>,
}

/// An entry as its agent holds it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Held {
    pub(crate) service: ServiceRow,
    checks: Option<Vec<HeldCheck>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HeldCheck {
    #[serde(rename = "CheckID")]
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) status: String,
}

impl Held {
    pub(crate) fn checks(&self) -> impl Iterator<Item = &HeldCheck> {
        self.checks.iter().flatten()
    }

    pub(crate) fn check(&self, id: &str) -> Option<&HeldCheck> {
        self.checks().find(|check| check.id == id)
    }
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
    #[serde(rename = "ServiceName")]
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

    /// When the process of the instance was started, as it is believed. None if nobody has said so, or not as a number.
    pub(crate) fn incarnation(&self) -> Option<Incarnation> {
        self.said_incarnation().map(Incarnation::believed)
    }

    /// The same, as the entry says it.
    pub(crate) fn said_incarnation(&self) -> Option<Incarnation> {
        self.meta(meta::INCARNATION)?.parse().ok().map(Incarnation::from_micros)
    }

    /// Whether it is an entry of this service, and not of one that Consul lists under the same name.
    pub(crate) fn is_of(&self, service: &ServiceName) -> bool {
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
    Error::invalid(format!("Meta {key:?} is {:?}, which this callboard cannot read", short(value)))
}

impl Row {
    /// The instance that the entry stands for.
    ///
    /// # Errors
    /// As [`ServiceRow::instance`].
    pub(crate) fn instance(&self, service: &ServiceName) -> Result<Instance> {
        self.service.instance(service, &self.node.address)
    }
}

impl ServiceRow {
    /// The instance that the entry stands for, on the node of this address.
    ///
    /// # Errors
    /// `Invalid`, if it cannot be reached as it stands there, or callboard's own part of it is not as it should be.
    pub(crate) fn instance(&self, service: &ServiceName, node: &str) -> Result<Instance> {
        let address = self.address(node)?;
        // Another tool may have ids that are none here; the address tells its instances apart.
        let id = instance_id(service, &self.id).unwrap_or_else(|| self.id.clone());
        let named = Instance::new(id, address.clone()).or_else(|_| Instance::at(address))?;
        let incarnation = match self.meta(meta::INCARNATION) {
            Some(text) => self.incarnation().ok_or_else(|| unreadable(meta::INCARNATION, text))?,
            None => Incarnation::from_micros(0),
        };
        let mut instance = named.with_weight(self.weight()?).with_kind(self.kind()?).with_incarnation(incarnation);
        instance.set_zone(self.meta(meta::ZONE).map(ToOwned::to_owned));
        let pairs = self.meta.iter().flatten();
        let others = pairs.filter(|(key, _)| *key != meta::ZONE && !key.starts_with(meta::OURS));
        *instance.metadata_mut() = others.map(|(key, value)| (key.clone(), value.clone())).collect();
        Ok(instance)
    }

    fn address(&self, node: &str) -> Result<Address> {
        if !self.socket_path.is_empty() {
            return Address::unix(&self.socket_path);
        }
        let host = if self.address.is_empty() { node } else { &self.address };
        let port = u16::try_from(self.port);
        Address::tcp(host, port.map_err(|_| Error::invalid(format!("port {} is none", self.port)))?)
    }
}
