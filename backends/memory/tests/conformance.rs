//! The memory backend against the properties that every backend has. It simulates the faults of a server.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not the harness")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard_conformance::{Bounds, Harness, Rights};
use callboard_core::{CONFIG_NAME, Error, ErrorKind, Instance, Registry, Resolver, ServiceName, encode};
use callboard_memory::Memory;

#[derive(Debug)]
struct InMemory(Memory);

impl InMemory {
    fn new() -> Self {
        let memory = Memory::default();
        memory.faults(|faults| faults.largest = Some(1 << 20));
        Self(memory)
    }

    fn fail(&self, kind: ErrorKind, why: &'static str) {
        let service = "project/test".parse().unwrap();
        self.0.faults(|faults| faults.down = Some(Error::new(kind, why).in_backend("memory").for_service(&service)));
    }

    fn mend(&self) {
        self.0.faults(|faults| faults.down = None);
    }
}

#[async_trait]
impl Harness for InMemory {
    fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(self.0.clone())
    }

    fn resolver(&self) -> Arc<dyn Resolver> {
        Arc::new(self.0.clone())
    }

    fn bounds(&self) -> Bounds {
        let second = Duration::from_secs(1);
        Bounds { expiry: second, heal: 10 * second, notice: 10 * second }
    }

    async fn kill(&self) {
        self.fail(ErrorKind::Unavailable, "killed");
    }

    async fn restart(&self) {
        self.mend();
    }

    /// A pause that is longer than any time to live.
    async fn pause(&self) {
        self.fail(ErrorKind::Timeout, "paused");
        self.0.wipe();
    }

    async fn resume(&self) {
        self.mend();
    }

    async fn wipe(&self) {
        self.fail(ErrorKind::Unavailable, "wiped");
        self.0.wipe();
        self.mend();
    }

    async fn put_garbage(&self, service: &ServiceName) {
        self.0.put(service, "garbage", Some(b"\xff{}"));
    }

    async fn put_record(&self, service: &ServiceName, id: &str, record: &Instance) {
        self.0.put(service, id, Some(encode(record).as_bytes()));
    }

    async fn put_config(&self, service: &ServiceName, config: Option<&[u8]>) {
        self.0.put(service, CONFIG_NAME, config);
    }

    async fn delete(&self, service: &ServiceName, instance: &Instance) {
        self.0.put(service, instance.id(), None);
    }

    async fn end_lease(&self, service: &ServiceName, instance: &Instance) {
        self.0.put(service, instance.id(), None);
    }

    async fn watches(&self) -> usize {
        self.0.watches()
    }
}

#[async_trait]
impl Rights for InMemory {
    /// It affects watches alone: they end with the error.
    async fn forbid_reading(&self) {
        self.0.faults(|faults| {
            faults.read_denied = Some(Error::new(ErrorKind::Denied, "may not read").in_backend("memory"));
        });
    }

    async fn permit_reading(&self) {
        self.0.faults(|faults| faults.read_denied = None);
    }

    /// All clients have the same rights here.
    fn observer(&self) -> Arc<dyn Resolver> {
        self.resolver()
    }
}

callboard_conformance::suite!(InMemory::new());
callboard_conformance::suite_of_rights!(InMemory::new());
