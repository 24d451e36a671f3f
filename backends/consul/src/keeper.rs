//! What keeps an entry alive, and finds out when it is lost.

use std::time::Duration;

use callboard_core::{Error, ErrorKind, Incarnation, Result, Retry};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::agent::{Agent, Held};
use crate::guard::quickly;
use crate::meta;

/// What a lease claims: an entry, under a token that no other lease has.
#[derive(Debug)]
pub(crate) struct Claim {
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
    /// `Conflict`, if a newer incarnation has it; `Lost`, if it is gone, not kept by its check any more, or somebody
    /// else's.
    pub(crate) fn check(&self, held: Option<&Held>) -> Result<()> {
        let lost = |why: &'static str| Err(Error::new(ErrorKind::Lost, why));
        let Some(held) = held else { return lost("the agent does not have the entry any more") };
        if held.service.incarnation().is_some_and(|there| there > self.incarnation) {
            return Err(self.conflict());
        }
        if !self.has_registered(held) {
            return lost("somebody else has registered the entry");
        }
        if self.ttl_check.as_ref().is_some_and(|check| !held.has_check(check)) {
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

    pub(crate) async fn audit(&self, agent: &Agent) -> Result<()> {
        self.check(agent.held(&self.entry).await?.as_ref())
    }

    /// Keeps the entry until it is lost, and says why. `kept` is when it was registered; `wake` asks for a sign of life
    /// now, because it may not be there any more.
    pub(crate) async fn keep(&self, agent: &Agent, mut kept: Instant, wake: &Notify) -> Error {
        let mut audit = kept + AUDIT;
        loop {
            // The first pass comes at once: an agent that is restarted restores what was passed, and nothing else.
            kept = match self.touch_until(agent, kept + self.ttl).await {
                Ok(kept) => kept,
                Err(error) => return error,
            };
            if audit <= kept {
                audit = kept + AUDIT;
                match self.audit(agent).await {
                    Err(error) if is_final(&error) => return error,
                    // What stands in the way of the audit is for the next pass to find.
                    _ => {}
                }
            }
            // A little sooner than at a third, and not for all instances of a process at once.
            let next = kept + (self.ttl / 3).mul_f64(1.0 - 0.2 * fastrand::f64());
            tokio::select! {
                () = sleep_until(next) => {}
                () = wake.notified() => {}
            }
        }
    }

    /// Gives a sign of life, again and again until it is taken or the time to live has passed without one: soon after
    /// an agent is back the entry passes again. Says when the one was given that was taken.
    async fn touch_until(&self, agent: &Agent, deadline: Instant) -> Result<Instant> {
        let mut retry = Retry::new(quickly());
        loop {
            let begun = Instant::now();
            let error = match timeout_at(deadline, self.touch(agent)).await {
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

fn is_final(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Lost | ErrorKind::Conflict)
}
