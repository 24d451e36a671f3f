//! The calls that a channel still sends to a server that has gone.

use std::time::Duration;

use callboard::{ConnectivityState, Endpoint};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Figures of an endpoint since a point in time. They are read every millisecond until this is dropped, so a time may
/// be that much too late, never too early.
pub(crate) struct Aftermath(watch::Receiver<Figures>);

#[derive(Clone, Copy, Default)]
pub(crate) struct Figures {
    /// Calls that the channel sent to it.
    pub(crate) tried: u64,
    /// The time up to the last of them.
    pub(crate) last: Duration,
    /// The time until the channel saw that its connection was lost.
    pub(crate) lost: Option<Duration>,
}

impl Aftermath {
    pub(crate) fn watch(endpoint: Endpoint, since: Instant) -> Self {
        let before = endpoint.calls();
        let (tell, figures) = watch::channel(Figures::default());
        tokio::spawn(async move {
            while !tell.is_closed() {
                sleep(Duration::from_millis(1)).await;
                tell.send_modify(|figures| {
                    let tried = endpoint.calls() - before;
                    if tried > figures.tried {
                        (figures.tried, figures.last) = (tried, since.elapsed());
                    }
                    if figures.lost.is_none() && endpoint.state() != ConnectivityState::Ready {
                        figures.lost = Some(since.elapsed());
                    }
                });
            }
        });
        Self(figures)
    }

    pub(crate) fn figures(&self) -> Figures {
        *self.0.borrow()
    }
}
