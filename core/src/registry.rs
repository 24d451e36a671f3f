//! Where instances are published.

use std::fmt;

use async_trait::async_trait;

use crate::{Error, ErrorKind, Instance, Result, ServiceName};

/// Where instances are published: the server's side of a backend.
///
/// # Contract
/// - **One attempt.** `register` makes one attempt and fails at the first doubt. It never retries:
///   [`register`](crate::register) calls it, bounds it by a timeout, and calls it again for ever.
/// - **One entry per service and id.** Where the id is there already: an entry of an older or the same incarnation is
///   replaced; one of a newer incarnation stays and gives [`Conflict`](crate::ErrorKind::Conflict), as
///   [`conflict`](crate::conflict) makes it. If the registry shows that the owner of the newer one is dead, that entry may
///   be replaced too.
/// - **An order among equals.** A lease whose entry was replaced by another claim of the same incarnation has lost it to a
///   later one: that is a `Conflict` too. An entry that was overwritten by hand, without a claim, is `Lost`.
/// - **A time to live.** The entry must end by itself, within the backend's time to live, when this process dies or the
///   lease is dropped. What cannot be tied to a lease is not published.
/// - **Cancellation.** If the future is dropped, the entry may or may not be there; if it is, nothing keeps it alive.
#[async_trait]
pub trait Registry: fmt::Debug + Send + Sync + 'static {
    /// Publishes the instance and returns once it is acknowledged by the registry, that is, visible to watchers.
    ///
    /// # Errors
    /// See [`ErrorKind`](crate::ErrorKind) for which kind says what.
    async fn register(&self, service: &ServiceName, instance: &Instance) -> Result<Box<dyn Lease>>;

    /// Puts the service's config beside its instances, in place of the one that is there; with None, removes it, and it is
    /// no error if there is none. Returns once that is acknowledged. The config has no lease: it stays until it is removed.
    ///
    /// Called with a text that [`ServiceConfig::parse`](crate::ServiceConfig::parse) has accepted: see [`put_service_config`](crate::put_service_config). Watchers get it as [`Snapshot::config`](crate::Snapshot::config).
    ///
    /// # Errors
    /// [`Unsupported`](ErrorKind::Unsupported), unless overridden. After another error it is not known which config is
    /// there.
    async fn put_service_config(&self, service: &ServiceName, config: Option<&str>) -> Result<()> {
        let _ = config;
        Err(Error::new(ErrorKind::Unsupported, "this registry keeps no service config").for_service(service))
    }
}

/// The claim on one published entry. It keeps the entry alive for as long as it exists.
///
/// # Contract
/// - **One owner** calls it.
/// - **A failed change destroys nothing.** As long as [`lost`](Self::lost) does not resolve, the entry is there and is kept
///   alive, whatever an [`update`](Self::update) has met.
/// - **Only its own.** Neither `revoke` nor dropping it removes what another claim has put under the same id, of whatever
///   incarnation; nor does anything that it has left to be done later.
/// - **Dropping** it stops whatever keeps the entry alive, without waiting; the entry then ends by its time to live, or at
///   once where the backend can do that without waiting.
#[async_trait]
pub trait Lease: fmt::Debug + Send + 'static {
    /// Resolves once the entry is gone, belongs to another claim, or can no longer be kept alive. Says why:
    /// [`Lost`](crate::ErrorKind::Lost) asks to register again; [`Conflict`](crate::ErrorKind::Conflict) says that another
    /// claim has taken the entry, of a newer incarnation or of the same. Of two that are equal, the later one stays. After
    /// that the lease can only be dropped.
    ///
    /// # Cancel safety
    /// Cancel-safe: it is called again and again beside other work, and a loss between two calls is not missed.
    async fn lost(&mut self) -> Error;

    /// Replaces what is published, in place: watchers see a change, never a gap. Only weight, zone and metadata may
    /// differ from what was registered.
    ///
    /// # Errors
    /// `Lost` and `Conflict` say that the claim is gone. After any other error the claim stands, either of the two records
    /// may be published, and the owner tries again:
    /// - [`Invalid`](crate::ErrorKind::Invalid) and [`Denied`](crate::ErrorKind::Denied): the registry refuses this record,
    ///   for instance because it is too large or has a key that the registry does not accept.
    /// - [`Unavailable`](crate::ErrorKind::Unavailable) and [`Timeout`](crate::ErrorKind::Timeout): it may work later.
    ///
    /// # Cancel safety
    /// If the future is dropped, either record may be published. The claim stands: a change that this call has begun is not
    /// mistaken for another claim.
    async fn update(&mut self, instance: &Instance) -> Result<()>;

    /// Removes the entry and returns once that is acknowledged. Another claim's entry is left alone, and an entry that is
    /// gone already is no error.
    ///
    /// # Errors
    /// After an error the entry ends by its time to live.
    async fn revoke(self: Box<Self>) -> Result<()>;
}

#[async_trait]
impl<R: Registry + ?Sized> Registry for std::sync::Arc<R> {
    async fn register(&self, service: &ServiceName, instance: &Instance) -> Result<Box<dyn Lease>> {
        (**self).register(service, instance).await
    }

    async fn put_service_config(&self, service: &ServiceName, config: Option<&str>) -> Result<()> {
        (**self).put_service_config(service, config).await
    }
}
