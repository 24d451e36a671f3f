//! Where a trial takes place: a directory as registry, and who is in it.

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use callboard::backend::Directory;
use callboard::{
    Address, AnnounceSettings, Announcement, Incarnation, Instance, InstanceKind, Registry, Service, announce,
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
    pub service: Service,
    attackers: RefCell<Vec<(RawServer, Announcement)>>,
    announced: RefCell<Vec<Announcement>>,
}

impl Scene {
    pub fn new() -> Self {
        let root = TempDir::with_prefix("callboard").unwrap();
        let service = "project/hostile".parse().unwrap();
        Self { root, service, attackers: RefCell::default(), announced: RefCell::default() }
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The registry that the victim watches.
    pub fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(Directory::builder(self.root.path()).build().unwrap())
    }

    /// Starts a server that follows a script, and registers it.
    pub async fn raw<F, S>(&self, id: &str, script: F)
    where
        F: Fn(Peer) -> S + Send + 'static,
        S: Future<Output = ()> + Send + 'static,
    {
        let server = RawServer::start(script).await.unwrap();
        let announcement = self.announce(&self.service, id, server.address().into(), InstanceKind::Backend).await;
        self.attackers.borrow_mut().push((server, announcement));
    }

    /// Registers an address, whoever may be there, as a backend or a balancer.
    pub async fn register(&self, id: &str, address: Address, kind: InstanceKind) {
        let announcement = self.announce(&self.service, id, address, kind).await;
        self.announced.borrow_mut().push(announcement);
    }

    /// Says of an address again and again that its server has just started, until the task is ended.
    pub fn restarts(&self, id: &'static str, address: Address, every: Duration) -> AbortHandle {
        let (registry, service) = (self.registry(), self.service.clone());
        let restarts = async move {
            loop {
                let instance = Instance::new(id, address.clone()).unwrap().incarnation(Incarnation::fresh());
                // The next one takes the place of this one.
                let lease = registry.register(&service, &instance).await;
                tokio::time::sleep(every).await;
                drop(lease);
            }
        };
        tokio::spawn(restarts).abort_handle()
    }

    /// A well-behaved server of a service, for as long as what is returned is held.
    pub async fn good(&self, service: &Service) -> (EchoServer, Announcement) {
        let server = EchoServer::start("good").await.unwrap();
        let announcement = self.announce(service, "good", server.address().into(), InstanceKind::Backend).await;
        (server, announcement)
    }

    /// Ends the attackers.
    pub async fn clear(&self) {
        let attackers = self.attackers.take().into_iter().map(|(server, announcement)| (Some(server), announcement));
        let announced = self.announced.take().into_iter().map(|announcement| (None, announcement));
        for (server, announcement) in attackers.chain(announced) {
            announcement.leave().await.unwrap();
            drop(server);
        }
    }

    async fn announce(&self, service: &Service, id: &str, address: Address, kind: InstanceKind) -> Announcement {
        let instance = Instance::new(id, address).unwrap().kind(kind).incarnation(Incarnation::fresh());
        let announcement = announce(self.registry(), service, instance, AnnounceSettings::default());
        announcement.on_board(PATIENCE).await.unwrap();
        announcement
    }
}
