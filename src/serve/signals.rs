//! What makes a server stop: signals, and a future of its owner's.

use std::future::pending;
use std::io;

use callboard_core::{Error, ErrorKind, Result};

use super::Later;

/// Where the wish to stop comes from.
pub(super) struct Stops {
    signals: Option<Signals>,
    until: Option<Later>,
}

impl Stops {
    /// Hears signals from now on.
    pub(super) fn new(signals: bool, until: Later) -> Result<Self> {
        let cannot =
            |error: io::Error| Error::new(ErrorKind::Unavailable, "cannot listen for signals").with_source(error);
        let signals = signals.then(Signals::new).transpose().map_err(cannot)?;
        Ok(Self { signals, until: Some(until) })
    }

    /// The next wish, by its name. Cancel-safe.
    pub(super) async fn next(&mut self) -> &'static str {
        let Self { signals, until } = self;
        let signalled = async {
            match signals {
                Some(signals) => signals.next().await,
                None => pending().await,
            }
        };
        let resolved = async {
            match until {
                Some(until) => until.await,
                None => pending().await,
            }
        };
        tokio::select! {
            signal = signalled => signal,
            () = resolved => {
                self.until = None;
                "its owner"
            }
        }
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
