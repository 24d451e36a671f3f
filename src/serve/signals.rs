//! What makes a server stop: signals, and a future of its owner's.

use std::future::pending;
use std::io;
use std::time::Duration;

use callboard_core::{Error, ErrorKind, Result};
use tokio::time::Instant;

use super::Later;

/// Signals within this time of the first one say the same: `timeout` signals a process and then its group, and a shell
/// hands on what its whole group has been sent.
const ONE_WISH: Duration = Duration::from_secs(1);

/// What a signal does to a server that a signal has asked to stop more than a second ago.
/// [`Serve::later_signal`](crate::Serve::later_signal) sets it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LaterSignal {
    /// It ends the server at once, and cuts the calls in flight.
    #[default]
    EndsAtOnce,
    /// Nothing: the way out goes on, within its bounds.
    Ignored,
}

/// Where the wish to stop comes from.
pub(super) struct Stops {
    signals: Option<Signals>,
    /// When the first signal was heard.
    first: Option<Instant>,
    later: LaterSignal,
    until: Later,
}

impl Stops {
    /// Hears signals from now on.
    pub(super) fn new(signals: bool, later: LaterSignal, until: Later) -> Result<Self> {
        let cannot =
            |error: io::Error| Error::new(ErrorKind::Unavailable, "cannot listen for signals").with_source(error);
        let signals = signals.then(Signals::new).transpose().map_err(cannot)?;
        Ok(Self { signals, first: None, later, until })
    }

    /// The first wish, by its name. Cancel-safe until it has resolved once.
    pub(super) async fn first(&mut self) -> &'static str {
        let Self { signals, first, until, .. } = self;
        tokio::select! {
            signal = next(signals) => {
                *first = Some(Instant::now());
                signal
            }
            () = until => "its owner",
        }
    }

    /// A second wish by signals that ends the server at once. The first signal of all is none, if the way out had another
    /// reason before: who sends it does not know of that. Cancel-safe.
    pub(super) async fn at_once(&mut self) -> &'static str {
        loop {
            let signal = next(&mut self.signals).await;
            let first = *self.first.get_or_insert_with(Instant::now);
            if first.elapsed() >= ONE_WISH && self.later == LaterSignal::EndsAtOnce {
                return signal;
            }
            tracing::info!(by = signal, "asked to stop, and stopping already");
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
            // No more will come.
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
