//! Registers a server whose address is not known yet.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use callboard_core::{Address, Error, ErrorKind, Instance, Lease, Registry, Result, ServiceName};

use super::route::Way;
use super::shutdown_signal::Shutdown;

/// A registry that first finds the server's address. An attempt to register fails if the address cannot be found, so
/// the registration's own waits, state and log cover that too.
#[derive(Debug)]
pub(super) struct AddressFirst {
    pub(super) registry: Arc<dyn Registry>,
    pub(super) way: Way,
    /// The id, if it is not made from the address.
    pub(super) id: Option<String>,
    /// Ends the search for the address.
    pub(super) leaving: Shutdown,
    /// The instance with its id and address, once they are known.
    pub(super) named: Arc<OnceLock<Instance>>,
}

impl AddressFirst {
    async fn named(&self, instance: &Instance) -> Result<&Instance> {
        if let Some(named) = self.named.get() {
            return Ok(named);
        }
        let address = tokio::select! {
            found = self.way.find() => found?,
            () = self.leaving.clone() => return Err(Error::new(ErrorKind::Closed, "the server is stopping")),
        };
        let named = instance.clone().with_name_of(&identity(self.id.as_deref(), address)?);
        Ok(self.named.get_or_init(|| named))
    }
}

#[async_trait]
impl Registry for AddressFirst {
    async fn register(&self, service: &ServiceName, instance: &Instance) -> Result<Box<dyn Lease>> {
        let named = self.named(instance).await.map_err(|error| error.for_service(service))?;
        let lease = self.registry.register(service, &instance.clone().with_name_of(named)).await?;
        Ok(Box::new(Named { lease, named: named.clone() }))
    }
}

/// A lease whose owner does not know the instance's id and address.
#[derive(Debug)]
struct Named {
    lease: Box<dyn Lease>,
    named: Instance,
}

#[async_trait]
impl Lease for Named {
    async fn lost(&mut self) -> Error {
        self.lease.lost().await
    }

    async fn update(&mut self, instance: &Instance) -> Result<()> {
        self.lease.update(&instance.clone().with_name_of(&self.named)).await
    }

    async fn revoke(self: Box<Self>) -> Result<()> {
        self.lease.revoke().await
    }
}

/// An instance with an id and an address, and nothing else yet.
pub(super) fn identity(id: Option<&str>, address: Address) -> Result<Instance> {
    match id {
        Some(id) => Instance::new(id, address),
        None => Instance::at(address),
    }
}
