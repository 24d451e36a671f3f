//! What is said of records in the log: once.

use std::collections::HashSet;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fold::at_one_address;
use crate::{Instance, Remark, ServiceName};

/// How many different things are said within an hour. Who may write to a registry chooses how many there are.
const MOST: usize = 100;
const HOUR: Duration = Duration::from_secs(3600);

/// Remembers what has been said of a service, so that it is said once however often it is found.
#[derive(Debug)]
pub(super) struct Said {
    service: ServiceName,
    seed: RandomState,
    /// Hashes: what is said may be long.
    said: HashSet<u64>,
    /// When all that may be said was.
    full: Option<Instant>,
}

impl Said {
    pub(super) fn of(service: &ServiceName) -> Self {
        Self { service: service.clone(), seed: RandomState::new(), said: HashSet::new(), full: None }
    }

    /// Says what there is to say of records.
    pub(super) fn on_records(&mut self, remarks: &[Arc<Remark>], now: Instant) {
        for remark in remarks {
            if self.is_new(remark, now) {
                let service = &self.service;
                tracing::warn!(%service, "{remark}");
            }
        }
    }

    /// Says which ids have one address.
    pub(super) fn on_addresses(&mut self, set: &[Arc<Instance>], now: Instant) {
        for (one, other) in at_one_address(set, MOST) {
            if self.is_new((one.id(), other.id(), one.address()), now) {
                let (service, address) = (&self.service, one.address());
                tracing::warn!(%service, one = one.id(), other = other.id(), %address, "two ids have one address: both count");
            }
        }
    }

    /// Whether this has not been said yet, and may be.
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
            tracing::warn!(%service, "{MOST} things were said of the service's records: no more are for an hour");
            return false;
        }
        self.said.insert(hash)
    }
}

/// Remembers when one thing was said that may come and go, so that it is said once an hour.
#[derive(Debug, Default)]
pub(super) struct Hourly(Option<Instant>);

impl Hourly {
    /// Whether it has not been said within the hour.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.0.is_none_or(|said| now - said >= HOUR);
        if due {
            self.0 = Some(now);
        }
        due
    }
}
