//! The task that follows the connection of a session, and decides when the session is over.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};
use zookeeper_client as zk;

use super::tls::Certificates;

/// The state of a session's connection.
#[derive(Clone, Debug)]
pub(super) enum Link {
    /// It is connected, after so many earlier connections. What was missed between two connections has to be read
    /// again.
    Up(u64),
    Down,
    /// The session will not be connected again.
    Over(zk::Error),
}

/// Reports the state of the connection until the session is over or nobody reads the reports.
pub(super) struct Supervision {
    pub(super) states: zk::StateWatcher,
    /// How long a lost connection may take to come back.
    pub(super) patience: Duration,
    pub(super) certificates: Option<Arc<Certificates>>,
    pub(super) broken: Arc<Notify>,
    pub(super) link: watch::Sender<Link>,
}

impl Supervision {
    pub(super) async fn run(mut self) {
        let Some(error) = self.until_over().await else { return };
        tracing::debug!(%error, "ZooKeeper session is over");
        self.link.send_replace(Link::Over(error));
        // The state stays readable for as long as the session is held.
        self.link.closed().await;
    }

    /// Why the session is over. None if nobody reads the reports any more.
    async fn until_over(&mut self) -> Option<zk::Error> {
        let mut rounds = 0;
        let mut give_up = None;
        loop {
            let state = tokio::select! {
                biased;
                state = self.states.changed() => state,
                () = sleep_until(give_up.unwrap_or_else(Instant::now)), if give_up.is_some() => {
                    return Some(zk::Error::ConnectionLoss);
                }
                () = self.broken.notified() => return Some(zk::Error::ClientClosed),
                () = self.link.closed() => return None,
            };
            match state {
                zk::SessionState::Disconnected => {
                    give_up.get_or_insert_with(|| Instant::now() + self.patience);
                    self.link.send_replace(Link::Down);
                    self.renew_certificates();
                }
                zk::SessionState::SyncConnected | zk::SessionState::ConnectedReadOnly => {
                    (rounds, give_up) = (rounds + 1, None);
                    self.link.send_replace(Link::Up(rounds));
                }
                zk::SessionState::AuthFailed => return Some(zk::Error::AuthFailed),
                zk::SessionState::Expired => return Some(zk::Error::SessionExpired),
                _ => return Some(zk::Error::ClientClosed),
            }
        }
    }

    /// The library connects anew by itself, at once and again. Its next attempt but one uses what the files say now.
    fn renew_certificates(&self) {
        if let Some(certificates) = self.certificates.clone() {
            drop(tokio::spawn(async move { certificates.renew().await }));
        }
    }
}
