//! One attempt to register.

use std::sync::Arc;

use callboard_core::{Error, ErrorKind, Instance, Lease, Result, ServiceName, conflict};
use tokio::time::Instant;

use crate::checks::{grpc_check_id, ttl_check_id};
use crate::consul::Inner;
use crate::entries::Registered;
use crate::entry::{Held, Registration, ServiceRow};
use crate::keeper::Claim;
use crate::lease::ConsulLease;
use crate::meta;
use crate::names::entry_id;

/// Registers, unless a newer incarnation is there already that may be alive.
pub(crate) async fn register(
    consul: &Arc<Inner>,
    service: &ServiceName,
    instance: &Instance,
) -> Result<Box<dyn Lease>> {
    let token = format!("{}-{:016x}", instance.incarnation(), fastrand::u64(..));
    let mut registration = Registration::new(service, instance, &consul.tags, &consul.checks, &token)?;
    let claim = Claim::new(consul, service, instance, token);
    let mut turn = consul.entries.turn(&claim.entry).await;
    let there = consul.agent.held(&claim.entry).await?;
    if let Some(there) = &there {
        claim.may_replace(there)?;
    }
    registration.grpc_begins(claim.begins(there.as_ref(), &turn));
    let since = Instant::now();
    consul.agent.register(&registration).await?;
    turn.insert(claim.entry.clone(), claim.incarnation);
    let held = consul.agent.held(&claim.entry).await?;
    claim.tidy(&consul.agent, held.as_ref()).await?;
    drop(turn);
    Ok(Box::new(ConsulLease::begin(Arc::clone(consul), claim, since)))
}

impl Claim {
    fn new(consul: &Inner, service: &ServiceName, instance: &Instance, token: String) -> Self {
        let entry = entry_id(service, instance.id());
        Self {
            ttl_check: consul.checks.by_ttl.then(|| ttl_check_id(&entry, &token)),
            service: service.clone(),
            entry,
            token,
            incarnation: instance.incarnation(),
            ttl: consul.checks.ttl,
        }
    }

    /// Whether a new lease may take the place of what is there: of anything but a newer incarnation that may be alive.
    fn may_replace(&self, there: &Held) -> Result<()> {
        let newer = there.service.incarnation().is_some_and(|there| there > self.incarnation);
        if newer && self.may_be_alive(there) { Err(self.conflict(&there.service)) } else { Ok(()) }
    }

    /// Whether a claim that is there may have an owner. Its time to live tells; where it has none, but a gRPC check, that
    /// cannot tell a server that does not serve from one that is dead. Without any check nothing ends it, and nobody
    /// can be relied on to keep it.
    fn may_be_alive(&self, there: &Held) -> bool {
        let claim = there.service.meta(meta::CLAIM).unwrap_or_default();
        match there.check(&ttl_check_id(&self.entry, claim)) {
            Some(check) => check.status != "critical",
            None => there.check(&grpc_check_id(&self.entry, claim)).is_some(),
        }
    }

    /// With which status the gRPC check begins. A server is registered once it serves, and passes until the agent has
    /// found something else. One that is registered again may have stopped serving since: it keeps what was found, or
    /// else waits, as Consul has it, until the agent has asked.
    fn begins(&self, there: Option<&Held>, registered: &Registered) -> &'static str {
        let of_this = there.filter(|there| there.service.incarnation() == Some(self.incarnation));
        let found = of_this.and_then(|there| {
            let claim = there.service.meta(meta::CLAIM)?;
            there.check(&grpc_check_id(&self.entry, claim))
        });
        match found {
            Some(check) if check.status == "passing" => "passing",
            Some(_) => "critical",
            None if registered.get(&self.entry) == Some(&self.incarnation) => "critical",
            None => "passing",
        }
    }

    /// The entry is another claim's.
    pub(crate) fn conflict(&self, there: &ServiceRow) -> Error {
        match there.instance(&self.service, "") {
            Ok(there) => conflict(self.incarnation, &there),
            Err(error) => {
                let message = format!("the id {:?} is taken by another claim, which cannot be read", self.entry);
                Error::new(ErrorKind::Conflict, message).with_source(error)
            }
        }
    }
}
