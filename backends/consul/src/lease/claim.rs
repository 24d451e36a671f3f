//! The claim on one entry: whether it may be made, and whether it still holds.

use std::time::Duration;

use callboard_core::{Error, ErrorKind, Incarnation, Instance, Result, ServiceName, conflict};

use super::entry_locks::Registered;
use crate::client::Agent;
use crate::record::{CLAIM, Checks, HeldEntry, StoredService, entry_id, grpc_check_id, is_check_of, ttl_check_id};

/// What a lease claims: an entry, under a token that no other lease has.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) service: ServiceName,
    pub(super) entry: String,
    pub(super) token: String,
    pub(super) incarnation: Incarnation,
    /// The check that is passed. None if the agent's own check alone keeps the entry.
    pub(super) ttl_check: Option<String>,
    pub(super) ttl: Duration,
}

impl Claim {
    pub(super) fn new(service: &ServiceName, instance: &Instance, checks: &Checks, token: String) -> Self {
        let entry = entry_id(service, instance.id());
        Self {
            ttl_check: checks.by_ttl.then(|| ttl_check_id(&entry, &token)),
            service: service.clone(),
            entry,
            token,
            incarnation: instance.incarnation(),
            ttl: checks.ttl,
        }
    }

    /// Whether a new lease may take the place of what is there: of anything but a newer incarnation that may be alive.
    pub(super) fn may_replace(&self, there: &HeldEntry) -> Result<()> {
        let newer = there.service.incarnation().is_some_and(|there| there > self.incarnation);
        if newer && self.may_be_alive(there) { Err(self.conflict(&there.service)) } else { Ok(()) }
    }

    /// Whether the owner of a claim that is there may be alive. Its TTL check tells. A gRPC check cannot tell a server
    /// that does not serve from one that is dead. An entry without either check is kept by no lease.
    fn may_be_alive(&self, there: &HeldEntry) -> bool {
        let claim = there.service.meta(CLAIM).unwrap_or_default();
        match there.check(&ttl_check_id(&self.entry, claim)) {
            Some(check) => check.status != "critical",
            None => there.check(&grpc_check_id(&self.entry, claim)).is_some(),
        }
    }

    /// The status with which the gRPC check begins. A server is registered once it serves, and passes until the agent has
    /// found something else. A server that is registered again may have stopped serving since. It keeps what the agent
    /// has found, or else is critical, as is Consul's default, until the agent has asked.
    pub(super) fn grpc_status(&self, there: Option<&HeldEntry>, registered: &Registered) -> &'static str {
        let of_this = there.filter(|there| there.service.incarnation() == Some(self.incarnation));
        let found = of_this.and_then(|there| {
            let claim = there.service.meta(CLAIM)?;
            there.check(&grpc_check_id(&self.entry, claim))
        });
        match found {
            Some(check) if check.status == "passing" => "passing",
            Some(_) => "critical",
            None if registered.get(&self.entry) == Some(&self.incarnation) => "critical",
            None => "passing",
        }
    }

    /// The error that the entry is another claim's.
    pub(super) fn conflict(&self, there: &StoredService) -> Error {
        match there.instance(&self.service, "") {
            Ok(there) => conflict(self.incarnation, &there),
            Err(error) => {
                let message = format!("the id {:?} is taken by another claim, which cannot be read", self.entry);
                Error::new(ErrorKind::Conflict, message).with_source(error)
            }
        }
    }

    /// Checks that the entry that the agent holds is the one that this lease has registered.
    ///
    /// # Errors
    /// `Conflict`, if another claim has it, of the same incarnation or a newer one; `Lost`, if it is gone, its check is
    /// gone, or another tool has registered it.
    pub(super) fn check(&self, held: Option<&HeldEntry>) -> Result<()> {
        let lost = |why: &'static str| Err(Error::new(ErrorKind::Lost, why));
        let Some(held) = held else { return lost("the agent does not have the entry any more") };
        if !self.has_registered(held) {
            let later = held.service.incarnation().is_some_and(|there| there >= self.incarnation);
            let claimed = held.service.meta(CLAIM).is_some();
            return if later && claimed {
                Err(self.conflict(&held.service))
            } else {
                lost("another tool has registered the entry")
            };
        }
        if self.ttl_check.as_ref().is_some_and(|check| held.check(check).is_none()) {
            return lost("the entry's check is gone");
        }
        Ok(())
    }

    /// Whether this lease has registered the entry that the agent holds.
    pub(super) fn has_registered(&self, held: &HeldEntry) -> bool {
        held.service.meta(CLAIM) == Some(&*self.token)
    }

    /// Checks that the entry is this lease's and has its check, and removes other claims' checks from it.
    pub(super) async fn audit(&self, agent: &Agent) -> Result<()> {
        let held = agent.held(&self.entry).await?;
        self.check(held.as_ref())?;
        self.remove_old_checks(agent, held.as_ref()).await
    }

    /// Removes the checks that other claims have left on this lease's entry. They are not passed any more, and the first
    /// that became critical would end the entry. Checks of other tools stay.
    pub(super) async fn remove_old_checks(&self, agent: &Agent, held: Option<&HeldEntry>) -> Result<()> {
        let own = [ttl_check_id(&self.entry, &self.token), grpc_check_id(&self.entry, &self.token)];
        let held = held.filter(|held| self.has_registered(held));
        for check in held.iter().flat_map(|held| held.checks()) {
            if is_check_of(&self.entry, &check.id) && !own.contains(&check.id) {
                agent.remove_check(&check.id).await?;
            }
        }
        Ok(())
    }
}
