//! The steps of a server's shutdown, and its result.

use std::fmt;
use std::panic::resume_unwind;
use std::pin::pin;
use std::time::Duration;

use callboard_core::{BoxError, Error, ErrorKind, RegistrationState, Result};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use super::Later;
use super::signals::Stops;

/// The result of the server's task.
type Outcome = Result<Result<(), BoxError>, JoinError>;

/// How long the health service may take to report NOT_SERVING. It runs in this process.
const HEALTH: Duration = Duration::from_secs(1);

/// Everything that a shutdown needs. Dropping it ends the server at once.
pub(super) struct WayOut {
    /// A single task. It is in a set because a set aborts its tasks when it is dropped.
    pub(super) server: JoinSet<Result<(), BoxError>>,
    /// Dropping it shuts the server down.
    pub(super) shut_down: watch::Sender<()>,
    pub(super) stops: Stops,
    pub(super) state: watch::Receiver<RegistrationState>,
    pub(super) not_serving: Option<Later>,
    /// Dropping it ends the search for the server's address.
    pub(super) leaving: watch::Sender<()>,
    pub(super) deregister_timeout: Duration,
    pub(super) deregister_delay: Duration,
    pub(super) drain_timeout: Duration,
}

impl fmt::Debug for WayOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WayOut")
            .field("deregister_delay", &self.deregister_delay)
            .field("drain_timeout", &self.drain_timeout)
            .finish_non_exhaustive()
    }
}

/// Why the shutdown begins.
enum Reason {
    Asked(&'static str),
    /// Another server has had the id for longer than the conflict timeout.
    Taken(Error),
    Ended(Outcome),
}

impl WayOut {
    /// Waits for a reason to stop, then shuts down. `leave` deregisters the instance.
    pub(super) async fn go(mut self, leave: impl Future<Output = Result<()>>) -> Result<()> {
        let reason = tokio::select! {
            outcome = ended(&mut self.server) => Reason::Ended(outcome),
            asked = self.stops.first() => Reason::Asked(asked),
            error = off_for_good(&mut self.state) => Reason::Taken(error),
        };
        let Self {
            server,
            shut_down,
            mut stops,
            not_serving,
            leaving,
            deregister_timeout,
            deregister_delay,
            drain_timeout,
            ..
        } = self;
        let off = async {
            drop(leaving);
            if let Some(report) = not_serving {
                match timeout(HEALTH, report).await {
                    Ok(()) => tracing::info!("health reports NOT_SERVING"),
                    Err(_) => tracing::warn!(after = ?HEALTH, "health did not report NOT_SERVING in time"),
                }
            }
            deregistered(leave).await;
        };
        let drain = drain(server, shut_down, deregister_delay, drain_timeout);
        let steps = steps(reason, off, deregister_timeout, drain);
        tokio::select! {
            result = steps => result,
            by = stops.at_once() => {
                tracing::warn!(by, "asked to stop again: ending at once");
                let message = format!("stopped at once by {by}, before the calls in flight had ended");
                Err(Error::new(ErrorKind::Closed, message))
            }
        }
    }
}

async fn steps(
    reason: Reason,
    off: impl Future<Output = ()>,
    deregister_timeout: Duration,
    drain: impl Future<Output = Result<()>>,
) -> Result<()> {
    match reason {
        // There is nothing to drain.
        Reason::Ended(outcome) => {
            tracing::error!(panicked = outcome.is_err(), "the server has ended without being asked");
            off.await;
            conclude(outcome)
        }
        Reason::Asked(by) => {
            tracing::info!(by, "asked to stop");
            off_and_drain(off, deregister_timeout, drain).await
        }
        Reason::Taken(error) => {
            tracing::error!(error = error.chain(), "the registration has ended: stopping");
            off_and_drain(off, deregister_timeout, drain).await.and(Err(error))
        }
    }
}

/// Deregisters, then drains. If the registry does not answer in time, both run concurrently.
async fn off_and_drain(
    off: impl Future<Output = ()>,
    deregister_timeout: Duration,
    drain: impl Future<Output = Result<()>>,
) -> Result<()> {
    let mut off = pin!(off);
    if timeout(deregister_timeout, &mut off).await.is_ok() {
        return drain.await;
    }
    tracing::warn!(after = ?deregister_timeout, "not deregistered yet: going on with the shutdown");
    tokio::join!(drain, off).0
}

/// Serves until clients have seen the change, then lets the calls in flight end.
async fn drain(
    mut server: JoinSet<Result<(), BoxError>>,
    shut_down: watch::Sender<()>,
    deregister_delay: Duration,
    drain_timeout: Duration,
) -> Result<()> {
    tracing::info!(delay = ?deregister_delay, "serving until clients have seen the change");
    tokio::select! {
        () = sleep(deregister_delay) => {}
        outcome = ended(&mut server) => return conclude(outcome),
    }
    tracing::info!(limit = ?drain_timeout, "shutting down: no new connections, waiting for calls in flight");
    let begun = Instant::now();
    drop(shut_down);
    let Ok(outcome) = timeout(drain_timeout, ended(&mut server)).await else {
        tracing::warn!(after = ?drain_timeout, "giving up the calls that are still in flight");
        let message = format!("calls were still in flight {drain_timeout:?} after the server began to shut down");
        return Err(Error::new(ErrorKind::Timeout, message));
    };
    tracing::info!(took = ?begun.elapsed(), "the server has ended");
    conclude(outcome)
}

async fn deregistered(leave: impl Future<Output = Result<()>>) {
    let begun = Instant::now();
    match leave.await {
        Ok(()) => tracing::info!(took = ?begun.elapsed(), "deregistered"),
        Err(error) if error.kind() == ErrorKind::Conflict => {
            tracing::info!("the entry in the registry is another server's, and stays");
        }
        Err(error) => {
            let (error, took) = (error.chain(), begun.elapsed());
            tracing::warn!(error, ?took, "cannot deregister: the entry ends by its time to live");
        }
    }
}

/// Waits for the end of the server's task. Cancel-safe; not to be called again once it has resolved.
async fn ended(server: &mut JoinSet<Result<(), BoxError>>) -> Outcome {
    server.join_next().await.expect("one task was spawned, and it is asked for once")
}

/// Resolves if the registration ends by itself. Before it is deregistered, that is always with an error.
async fn off_for_good(state: &mut watch::Receiver<RegistrationState>) -> Error {
    // An error means that the task is gone. The last state has the reason.
    let _ = state.wait_for(|state| matches!(state, RegistrationState::Deregistered { .. })).await;
    match &*state.borrow() {
        RegistrationState::Deregistered { error: Some(error), .. } => error.clone(),
        _ => Error::new(ErrorKind::Closed, "the registration has ended"),
    }
}

fn conclude(outcome: Outcome) -> Result<()> {
    match outcome {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Error::new(ErrorKind::Closed, "the server has ended with an error").with_source(error)),
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(cancelled) => {
                Err(Error::new(ErrorKind::Closed, "the server's task was cancelled").with_source(cancelled))
            }
        },
    }
}
