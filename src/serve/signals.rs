//! What makes a server stop: signals, and a future of its owner's.

use std::future::pending;
use std::io;

use callboard_core::{Error, ErrorKind, Result};

use super::Later;

/// Where the wish to stop comes from.
pub(super) struct Stops {
    signals: Option<Signals>,
    heard: u32,
    until: Later,
}

impl Stops {
    /// Hears signals from now on.
    pub(super) fn new(signals: bool, until: Later) -> Result<Self> {
        let cannot =
            |error: io::Error| Error::new(ErrorKind::Unavailable, "cannot listen for signals").with_source(error);
        let signals = signals.then(Signals::new).transpose().map_err(cannot)?;
        Ok(Self { signals, heard: 0, until })
    }

    /// The first wish, by its name. Cancel-safe until it has resolved once.
    pub(super) async fn first(&mut self) -> &'static str {
        let Self { signals, heard, until } = self;
        tokio::select! {
            signal = next(signals, heard) => signal,
            () = until => "its owner",
        }
    }

    /// The second signal of all. One alone does not count, if the way out had another reason before: who sends it does
    /// not know of that. Cancel-safe.
    pub(super) async fn second_signal(&mut self) -> &'static str {
        loop {
            let signal = next(&mut self.signals, &mut self.heard).await;
            if self.heard > 1 {
                return signal;
            }
            tracing::info!(by = signal, "asked to stop, and stopping already");
        }
    }
}

async fn next(signals: &mut Option<Signals>, heard: &mut u32) -> &'static str {
    let Some(signals) = signals else { return pending().await };
    let signal = signals.next().await;
    *heard += 1;
    signal
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
