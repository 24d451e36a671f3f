//! Entries as Consul returns them, those of other tools too.

use std::collections::BTreeMap;

use callboard_core::{Address, Error, Incarnation, Instance, InstanceKind, Result, ServiceName, short};
use serde::Deserialize;

use super::meta;
use super::names::instance_id;
use super::weights::{Weights, held_weight};

/// An entry as its agent holds it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct HeldEntry {
    pub(crate) service: StoredService,
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

impl HeldEntry {
    pub(crate) fn checks(&self) -> impl Iterator<Item = &HeldCheck> {
        self.checks.iter().flatten()
    }

    pub(crate) fn check(&self, id: &str) -> Option<&HeldCheck> {
        self.checks().find(|check| check.id == id)
    }
}

/// An entry as the catalog lists it. It may be another tool's.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct ListedEntry {
    pub(crate) node: Node,
    pub(crate) service: StoredService,
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
pub(crate) struct StoredService {
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

impl StoredService {
    pub(crate) fn meta(&self, key: &str) -> Option<&str> {
        self.meta.as_ref()?.get(key).map(String::as_str)
    }

    /// When the process of the instance was started, as far as it is believed. None if the entry does not have it, or not as
    /// a number.
    pub(crate) fn incarnation(&self) -> Option<Incarnation> {
        self.said_incarnation().map(Incarnation::believed)
    }

    /// The same, as the entry has it.
    pub(crate) fn said_incarnation(&self) -> Option<Incarnation> {
        self.meta(meta::INCARNATION)?.parse().ok().map(Incarnation::from_micros)
    }

    /// Whether it is an entry of this service, and not of one that Consul lists under the same name.
    pub(crate) fn is_of(&self, service: &ServiceName) -> bool {
        self.meta(meta::SERVICE).unwrap_or(&self.name) == service.as_str()
    }

    fn weight(&self) -> Result<u32> {
        let held = self.weights.map_or(1, Weights::passing);
        let Some(exact) = self.meta(meta::WEIGHT) else { return Ok(held) };
        let exact = exact.parse().map_err(|_| unreadable(meta::WEIGHT, exact))?;
        // If another tool has changed the weight since, the other tool's weight counts.
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

impl ListedEntry {
    /// The instance of the entry.
    ///
    /// # Errors
    /// As [`StoredService::instance`].
    pub(crate) fn instance(&self, service: &ServiceName) -> Result<Instance> {
        self.service.instance(service, &self.node.address)
    }
}

impl StoredService {
    /// The instance of the entry, which is on the node of this address.
    ///
    /// # Errors
    /// `Invalid`, if its address cannot be used, or callboard's own fields in it cannot be read.
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
