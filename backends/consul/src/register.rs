//! One attempt to register.

use std::sync::Arc;

use callboard_core::{Error, ErrorKind, Instance, Lease, Result, Service};
use tokio::time::Instant;

use crate::agent::Held;
use crate::checks::ttl_check_id;
use crate::consul::Inner;
use crate::entry::Registration;
use crate::keeper::Claim;
use crate::lease::ConsulLease;
use crate::names::entry_id;

/// Registers, unless a newer incarnation is there already.
pub(crate) async fn register(consul: &Arc<Inner>, service: &Service, instance: &Instance) -> Result<Box<dyn Lease>> {
    let token = format!("{}-{:016x}", instance.incarnation, fastrand::u64(..));
    let registration = Registration::new(service, instance, &consul.tags, &consul.checks, &token)?;
    let entry = entry_id(service, &instance.id);
    let claim = Claim {
        ttl_check: consul.checks.by_ttl.then(|| ttl_check_id(&entry, &token)),
        entry,
        token,
        incarnation: instance.incarnation,
        ttl: consul.checks.ttl,
    };
    if let Some(there) = consul.agent.held(&claim.entry).await? {
        claim.may_replace(&there)?;
    }
    let since = Instant::now();
    consul.agent.register(&registration).await?;
    Ok(Box::new(ConsulLease::begin(Arc::clone(consul), service.clone(), claim, since)))
}

impl Claim {
    /// Whether a new lease may take the place of what is there: of anything but a newer incarnation.
    fn may_replace(&self, there: &Held) -> Result<()> {
        match there.service.incarnation() {
            Some(newer) if newer > self.incarnation => Err(self.conflict()),
            _ => Ok(()),
        }
    }

    pub(crate) fn conflict(&self) -> Error {
        Error::new(ErrorKind::Conflict, format!("a newer incarnation has registered {:?} with this agent", self.entry))
    }
}
