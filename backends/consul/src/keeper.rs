//! What keeps an entry alive, and finds out when it is lost.

use std::time::Duration;

use callboard_core::{BackoffState, Error, ErrorKind, Incarnation, Result, ServiceName};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::agent::Agent;
use crate::checks::{grpc_check_id, is_of, ttl_check_id};
use crate::entry::Held;
use crate::guard::quickly;
use crate::meta;

/// What a lease claims: an entry, under a token that no other lease has.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) service: ServiceName,
    pub(crate) entry: String,
    pub(crate) token: String,
    pub(crate) incarnation: Incarnation,
    /// The check that is passed. None if the agent's own check alone keeps the entry.
    pub(crate) ttl_check: Option<String>,
    pub(crate) ttl: Duration,
}

/// How often the agent is asked for the entry itself, beside the passes.
const AUDIT: Duration = Duration::from_secs(60);

impl Claim {
    /// Whether what the agent holds is what this lease has registered.
    ///
    /// # Errors
    /// `Conflict`, if another claim has it, of the same incarnation or a newer one; `Lost`, if it is gone, not kept by its
    /// check any more, or what somebody else has put there.
    pub(crate) fn check(&self, held: Option<&Held>) -> Result<()> {
        let lost = |why: &'static str| Err(Error::new(ErrorKind::Lost, why));
        let Some(held) = held else { return lost("the agent does not have the entry any more") };
        if !self.has_registered(held) {
            let later = held.service.incarnation().is_some_and(|there| there >= self.incarnation);
            let claimed = held.service.meta(meta::CLAIM).is_some();
            return if later && claimed {
                Err(self.conflict(&held.service))
            } else {
                lost("somebody else has registered the entry")
            };
        }
        if self.ttl_check.as_ref().is_some_and(|check| held.check(check).is_none()) {
            return lost("the entry's check is gone");
        }
        Ok(())
    }

    /// Whether what the agent holds was registered by this lease.
    pub(crate) fn has_registered(&self, held: &Held) -> bool {
        held.service.meta(meta::CLAIM) == Some(&*self.token)
    }

    /// One sign of life.
    ///
    /// # Errors
    /// As [`check`](Self::check), or why the agent could not be asked.
    async fn touch(&self, agent: &Agent) -> Result<()> {
        let Some(check) = &self.ttl_check else { return self.audit(agent).await };
        if agent.pass(check).await? {
            return Ok(());
        }
        // Who has taken the check away is seen from the entry. If nobody has, nothing has been passed all the same.
        self.audit(agent).await?;
        Err(Error::new(ErrorKind::Unavailable, "the agent has the entry's check and does not let it be passed"))
    }

    /// Looks whether the entry is this lease's and kept by its check, and tidies it.
    pub(crate) async fn audit(&self, agent: &Agent) -> Result<()> {
        let held = agent.held(&self.entry).await?;
        self.check(held.as_ref())?;
        self.tidy(agent, held.as_ref()).await
    }

    /// Removes the checks that other claims have left on this lease's entry: nobody passes them any more, and the first
    /// that turned critical would end the entry. What others have put there stays.
    pub(crate) async fn tidy(&self, agent: &Agent, held: Option<&Held>) -> Result<()> {
        let own = [ttl_check_id(&self.entry, &self.token), grpc_check_id(&self.entry, &self.token)];
        let held = held.filter(|held| self.has_registered(held));
        for check in held.iter().flat_map(|held| held.checks()) {
            if is_of(&self.entry, &check.id) && !own.contains(&check.id) {
                agent.remove_check(&check.id).await?;
            }
        }
        Ok(())
    }

    /// Keeps the entry until it is lost, and says why. `kept` is when it was registered; `wake` asks for a sign of life
    /// now, because it may not be there any more.
    pub(crate) async fn keep(&self, agent: &Agent, mut kept: Instant, wake: &Notify) -> Error {
        // Soon at first: an attempt to register that was given up may have come to the agent later than this one.
        let mut audit = kept + beat(self.ttl) / 2;
        loop {
            // The first pass comes at once: an agent that is restarted restores what was passed, and nothing else.
            kept = match self.touch_until(agent, kept + self.ttl).await {
                Ok(kept) => kept,
                Err(error) => return error,
            };
            if audit <= kept {
                audit = kept + AUDIT;
                match timeout(attempt(self.ttl), self.audit(agent)).await {
                    Ok(Err(error)) if is_final(&error) => return error,
                    // What stands in the way of the audit is for the next pass to find.
                    _ => {}
                }
            }
            // A little sooner than it has to be, and not for all instances of a process at once.
            let next = kept + beat(self.ttl).mul_f64(1.0 - 0.2 * fastrand::f64());
            tokio::select! {
                () = sleep_until(next) => {}
                () = wake.notified() => {}
            }
        }
    }

    /// Gives a sign of life, again and again until it is taken or the time to live has passed without one: soon after
    /// an agent is back the entry passes again. Says when the one was given that was taken.
    async fn touch_until(&self, agent: &Agent, deadline: Instant) -> Result<Instant> {
        let mut retry = BackoffState::new(quickly());
        loop {
            let begun = Instant::now();
            let error = match timeout_at(deadline.min(begun + attempt(self.ttl)), self.touch(agent)).await {
                Ok(Ok(())) => return Ok(begun),
                Ok(Err(error)) if is_final(&error) => return Err(error),
                Ok(Err(error)) => error,
                Err(_) => Error::new(ErrorKind::Timeout, "the agent does not answer"),
            };
            let next = Instant::now() + retry.failed();
            tracing::debug!(
                backend = "consul",
                entry = self.entry,
                error = error.chain(),
                "the agent cannot be told that the instance lives"
            );
            if next >= deadline {
                sleep_until(deadline).await;
                let message = format!("the entry could not be kept alive for {:?}, its time to live", self.ttl);
                return Err(Error::new(ErrorKind::Lost, message).with_source(error));
            }
            sleep_until(next).await;
        }
    }
}

/// How long after one sign of life the next one is given.
fn beat(ttl: Duration) -> Duration {
    ttl / 3
}

/// How long one sign of life may take: one that is not answered leaves time for another.
fn attempt(ttl: Duration) -> Duration {
    ttl / 4
}

fn is_final(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Lost | ErrorKind::Conflict)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_of_life_that_is_not_answered_leaves_time_for_another() {
        let pause = (0..1_000).map(|_| BackoffState::new(quickly()).failed()).max().expect("some");
        for ttl in (1..=600).map(Duration::from_secs) {
            let told = beat(ttl) + attempt(ttl) + pause + attempt(ttl);
            assert!(told <= ttl, "of {ttl:?}, {told:?} are gone when the agent has been told");
        }
    }
}
