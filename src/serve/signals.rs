//! What makes a server stop: signals, and a future of the caller's.

use std::future::pending;
use std::io;
use std::time::Duration;

use callboard_core::{Error, ErrorKind, Result};
use tokio::time::Instant;

use super::Later;

/// Signals within this time of the first one count as one request: `timeout` signals a process and then its group, and
/// a shell passes on what its whole group has received.
const ONE_WISH: Duration = Duration::from_secs(1);

/// What a signal does to a server that another signal told to stop more than a second ago.
/// [`Serve::later_signal`](crate::Serve::later_signal) sets it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LaterSignal {
    /// The signal ends the server at once, and cuts the calls in flight.
    #[default]
    EndsAtOnce,
    /// The signal has no effect: the shutdown goes on, within its bounds.
    Ignored,
}

/// The sources of requests to stop.
pub(super) struct Stops {
    signals: Option<Signals>,
    /// When the first signal came.
    first: Option<Instant>,
    later: LaterSignal,
    until: Later,
}

impl Stops {
    /// Listens for signals from now on.
    pub(super) fn new(signals: bool, later: LaterSignal, until: Later) -> Result<Self> {
        let cannot =
            |error: io::Error| Error::new(ErrorKind::Unavailable, "cannot listen for signals").with_source(error);
        let signals = signals.then(Signals::new).transpose().map_err(cannot)?;
        Ok(Self { signals, first: None, later, until })
    }

    /// Waits for the first request to stop, and names its source. Cancel-safe until it has resolved once.
    pub(super) async fn first(&mut self) -> &'static str {
        let Self { signals, first, until, .. } = self;
        tokio::select! {
            signal = next(signals) => {
                *first = Some(Instant::now());
                signal
            }
            () = until => "shutdown_signal",
        }
    }

    /// Waits for a signal that ends the server at once. If the shutdown began for another reason, the first signal does
    /// not, as its sender may not know that the server is stopping. Cancel-safe.
    pub(super) async fn at_once(&mut self) -> &'static str {
        loop {
            let signal = next(&mut self.signals).await;
            let first = *self.first.get_or_insert_with(Instant::now);
            if first.elapsed() >= ONE_WISH && self.later == LaterSignal::EndsAtOnce {
                return signal;
            }
            tracing::info!(by = signal, "asked to stop, but stopping already");
        }
    }
}

async fn next(signals: &mut Option<Signals>) -> &'static str {
    match signals {
        Some(signals) => signals.next().await,
        None => pending().await,
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        let signal = tokio::select! {
            heard = self.interrupt.recv() => heard.map(|()| "SIGINT"),
            heard = self.terminate.recv() => heard.map(|()| "SIGTERM"),
        };
        match signal {
            Some(signal) => signal,
            // No more signals will come.
            None => pending().await,
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) -> &'static str {
        match tokio::signal::ctrl_c().await {
            Ok(()) => "Ctrl-C",
            Err(_) => pending().await,
        }
    }
}
