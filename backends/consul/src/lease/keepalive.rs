//! Keeping an entry alive, and finding out when it is lost.

use std::time::Duration;

use callboard_core::{Backoff, BackoffState, Error, ErrorKind, Result};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::claim::Claim;
use crate::client::Agent;
use crate::error::BACKEND;

/// How often the entry itself is looked at, beside the passes.
const AUDIT: Duration = Duration::from_secs(60);

impl Claim {
    /// Passes the check once. A claim without a TTL check looks at the entry instead.
    ///
    /// # Errors
    /// As [`check`](Self::check), or why the agent could not be asked.
    async fn touch(&self, agent: &Agent) -> Result<()> {
        let Some(check) = &self.ttl_check else { return self.audit(agent).await };
        if agent.pass(check).await? {
            return Ok(());
        }
        // The entry shows what has become of the check. If the check is there, it was not passed all the same.
        self.audit(agent).await?;
        Err(Error::new(ErrorKind::Unavailable, "the agent has the entry's check and refuses the pass"))
    }

    /// Keeps the entry until it is lost, and returns why. `kept` is when it was registered. `wake` asks for a pass
    /// now, because the entry may be lost.
    pub(super) async fn keep(&self, agent: &Agent, mut kept: Instant, wake: &Notify) -> Error {
        // Early the first time: an attempt to register that was given up may have reached the agent after this one.
        let mut audit = kept + interval(self.ttl) / 2;
        loop {
            // The first pass comes at once: an agent that is restarted restores passed checks, and nothing else.
            kept = match self.touch_until(agent, kept + self.ttl).await {
                Ok(kept) => kept,
                Err(error) => return error,
            };
            if audit <= kept {
                audit = kept + AUDIT;
                match timeout(attempt(self.ttl), self.audit(agent)).await {
                    Ok(Err(error)) if is_final(&error) => return error,
                    // Any other failure is found by the next pass too.
                    _ => {}
                }
            }
            // A little early, and not for all instances of a process at the same time.
            let next = kept + interval(self.ttl).mul_f64(1.0 - 0.2 * fastrand::f64());
            tokio::select! {
                () = sleep_until(next) => {}
                () = wake.notified() => {}
            }
        }
    }

    /// Passes the check, again and again until the agent takes it or the time to live is over. So the entry passes again
    /// soon after the agent is back. Returns when the successful attempt began.
    async fn touch_until(&self, agent: &Agent, deadline: Instant) -> Result<Instant> {
        let mut retry = BackoffState::new(Backoff::AGENT);
        loop {
            let begun = Instant::now();
            let error = match timeout_at(deadline.min(begun + attempt(self.ttl)), self.touch(agent)).await {
                Ok(Ok(())) => return Ok(begun),
                Ok(Err(error)) if is_final(&error) => return Err(error),
                Ok(Err(error)) => error,
                Err(_) => Error::new(ErrorKind::Timeout, "the agent does not answer"),
            };
            let next = Instant::now() + retry.failed();
            tracing::debug!(backend = BACKEND, entry = self.entry, error = error.chain(), "the check cannot be passed");
            if next >= deadline {
                sleep_until(deadline).await;
                let message = format!("the entry could not be kept alive for {:?}, its time to live", self.ttl);
                return Err(Error::new(ErrorKind::Lost, message).with_source(error));
            }
            sleep_until(next).await;
        }
    }
}

/// The time between two passes.
fn interval(ttl: Duration) -> Duration {
    ttl / 3
}

/// The time limit of one pass. One that is not answered leaves time for another.
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
    fn a_pass_that_is_not_answered_leaves_time_for_another() {
        let pause = (0..1_000).map(|_| BackoffState::new(Backoff::AGENT).failed()).max().expect("some");
        for ttl in (1..=600).map(Duration::from_secs) {
            let passed = interval(ttl) + attempt(ttl) + pause + attempt(ttl);
            assert!(passed <= ttl, "of {ttl:?}, {passed:?} are gone when the check is passed");
        }
    }
}
