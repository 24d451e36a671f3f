//! Where a trial takes place: a directory as registry, and who is in it.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use callboard::backend::FileRegistry;
use callboard::{
    Address, Incarnation, Instance, InstanceKind, Registration, RegistrationSettings, Registry, ServiceName, register,
};
use callboard_echo::EchoServer;
use callboard_raw::{Peer, RawServer};
use tempfile::TempDir;
use tokio::task::AbortHandle;

use crate::common::PATIENCE;

/// The registry, and those whom an attack has brought. They are there until [`clear`](Self::clear).
pub struct Scene {
    root: TempDir,
    /// The service that is attacked.
    pub service: ServiceName,
    attackers: RefCell<Vec<(RawServer, Registration)>>,
    registered: RefCell<Vec<Registration>>,
}

impl Scene {
    pub fn new() -> Self {
        let root = TempDir::with_prefix("callboard").unwrap();
        let service = "project/hostile".parse().unwrap();
        Self { root, service, attackers: RefCell::default(), registered: RefCell::default() }
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The registry that the victim watches.
    pub fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(FileRegistry::builder(self.root.path()).build().unwrap())
    }

    /// Starts a server that follows a script, and registers it.
    pub async fn raw<F, S>(&self, id: &str, script: F)
    where
        F: Fn(Peer) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let server = RawServer::start(script).await.unwrap();
        let registration =
            self.keep(&self.service, id, server.address().try_into().unwrap(), InstanceKind::Backend).await;
        self.attackers.borrow_mut().push((server, registration));
    }

    /// Registers an address, whoever may be there, as a backend or a balancer.
    pub async fn register(&self, id: &str, address: Address, kind: InstanceKind) {
        let registration = self.keep(&self.service, id, address, kind).await;
        self.registered.borrow_mut().push(registration);
    }

    /// Says of an address again and again that its server has just started, until the task is ended.
    pub fn restarts(&self, id: &'static str, address: Address, every: Duration) -> AbortHandle {
        let (registry, service) = (self.registry(), self.service.clone());
        let restarts = async move {
            loop {
                let instance = Instance::new(id, address.clone()).unwrap().with_incarnation(Incarnation::fresh());
                // The next one takes the place of this one.
                let lease = registry.register(&service, &instance).await;
                tokio::time::sleep(every).await;
                drop(lease);
            }
        };
        tokio::spawn(restarts).abort_handle()
    }

    /// A well-behaved server of a service, for as long as what is returned is held.
    pub async fn good(&self, service: &ServiceName) -> (EchoServer, Registration) {
        let server = EchoServer::start("good").await.unwrap();
        let registration =
            self.keep(service, "good", server.address().try_into().unwrap(), InstanceKind::Backend).await;
        (server, registration)
    }

    /// Ends the attackers.
    pub async fn clear(&self) {
        let attackers = self.attackers.take().into_iter().map(|(server, registration)| (Some(server), registration));
        let registered = self.registered.take().into_iter().map(|registration| (None, registration));
        for (server, registration) in attackers.chain(registered) {
            registration.deregister().await.unwrap();
            drop(server);
        }
    }

    async fn keep(&self, service: &ServiceName, id: &str, address: Address, kind: InstanceKind) -> Registration {
        let instance = Instance::new(id, address).unwrap().with_kind(kind).with_incarnation(Incarnation::fresh());
        let registration = register(self.registry(), service, instance, RegistrationSettings::default());
        registration.wait_registered(PATIENCE).await.unwrap();
        registration
    }
}
