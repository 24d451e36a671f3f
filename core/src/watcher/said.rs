//! Warnings about records, each logged once.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fold::at_one_address;
use crate::{Instance, Remark, ServiceName};

/// How many different warnings are logged within an hour. Writers of the registry choose how many there could be.
const MOST: usize = 100;
const HOUR: Duration = Duration::from_secs(3600);

/// Remembers what has been logged about a service, so that it is logged once however often it is found.
#[derive(Debug)]
pub(super) struct Said {
    service: ServiceName,
    seed: RandomState,
    /// Hashes, because the texts may be long.
    said: HashSet<u64>,
    /// When the limit was reached.
    full: Option<Instant>,
    unreadable: Hourly,
    too_many: Hourly,
}

impl Said {
    pub(super) fn of(service: &ServiceName) -> Self {
        Self {
            service: service.clone(),
            seed: RandomState::new(),
            said: HashSet::new(),
            full: None,
            unreadable: Hourly::default(),
            too_many: Hourly::default(),
        }
    }

    /// Logs the remarks on records.
    pub(super) fn on_records(&mut self, remarks: &[Arc<Remark>], now: Instant) {
        for remark in remarks {
            if self.is_new(remark, now) {
                let service = &self.service;
                tracing::warn!(%service, "{remark}");
            }
        }
    }

    /// Logs which ids share an address.
    pub(super) fn on_addresses(&mut self, set: &[Arc<Instance>], now: Instant) {
        for (one, other) in at_one_address(set, MOST) {
            if self.is_new((one.id(), other.id(), one.address()), now) {
                let (service, address) = (&self.service, one.address());
                tracing::warn!(%service, one = one.id(), other = other.id(), %address, "two ids have the same address: both are used");
            }
        }
    }

    /// Logs, once an hour, that there are records and none can be read. `kept` is whether there are instances from before.
    pub(super) fn on_unreadable(&mut self, records: usize, kept: bool, now: Instant) {
        if self.unreadable.is_due(now) {
            let service = &self.service;
            tracing::warn!(%service, records, kept, "no record of the service can be read: were they written by a newer version?");
        }
    }

    /// Logs, once an hour, that there are more instances than are used.
    pub(super) fn on_too_many(&mut self, instances: usize, max_instances: usize, now: Instant) {
        if self.too_many.is_due(now) {
            let service = &self.service;
            tracing::warn!(%service, instances, max_instances, "there are too many instances: a part is kept");
        }
    }

    /// Whether this has not been logged yet, and may be.
    fn is_new(&mut self, what: impl Hash, now: Instant) -> bool {
        if self.full.is_some_and(|full| now - full >= HOUR) {
            (self.full, self.said) = (None, HashSet::new());
        }
        let hash = self.seed.hash_one(what);
        if self.full.is_some() || self.said.contains(&hash) {
            return false;
        }
        if self.said.len() == MOST {
            self.full = Some(now);
            let service = &self.service;
            tracing::warn!(%service, "{MOST} warnings about the service's records were logged: there will be no more for an hour");
            return false;
        }
        self.said.insert(hash)
    }
}

/// Remembers when something was logged that may come and go, so that it is logged once an hour.
#[derive(Debug, Default)]
struct Hourly(Option<Instant>);

impl Hourly {
    /// Whether it has not been logged within the hour.
    fn is_due(&mut self, now: Instant) -> bool {
        let due = self.0.is_none_or(|said| now - said >= HOUR);
        if due {
            self.0 = Some(now);
        }
        due
    }
}
