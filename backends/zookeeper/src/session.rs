//! One session with ZooKeeper, for as long as it is any good.

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Error, Result};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use zookeeper_client as zk;

use crate::claims::Claims;
use crate::failure::failed;
use crate::settings::{ANSWER, Settings};
use crate::tls::Certificates;

/// How long all hosts together may take to connect. A host that is silent takes up to 3 s of it.
const CONNECT: Duration = Duration::from_secs(8);
/// How long a connection may be silent, and a host take to connect, at the longest.
const SILENCE: Duration = Duration::from_secs(3);
/// How long a lost connection may take to come back before the session is given up, at the longest.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a connection may be silent, and a host take to connect.
fn silence(session: Duration) -> Duration {
    SILENCE.min(session * 2 / 5)
}

/// How long a lost connection may take to come back before the session is given up.
fn patience(session: Duration) -> Duration {
    PATIENCE.min(session / 5)
}

/// A session, and what is known of its connection.
///
/// The client library connects a session anew by itself, with waits that double up to the length of the session. To be
/// right soon after an outage, a session that stays disconnected for longer than a fifth of its length is given up
/// here, and whoever needs one makes a new one. It is not closed: its entries live on at the server until they are
/// replaced or until it expires there, so that nobody who is live drops out of a set meanwhile.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: zk::Client,
    /// Of how many bytes a request may be.
    pub(crate) limit: usize,
    /// Who of this process has claimed what over it.
    pub(crate) claims: Arc<Claims>,
    link: watch::Receiver<Link>,
    /// Where it was made.
    runtime: Handle,
    /// Tells that the library has said what it never should: its own task is gone, or has read nonsense.
    broken: Arc<Notify>,
}

/// How the connection of a session stands.
#[derive(Clone, Debug)]
enum Link {
    /// It is connected, for so many times before. What was missed while it was not has to be asked for.
    Up(u64),
    Down,
    /// The session will not be heard of again.
    Over(zk::Error),
}

impl Session {
    pub(crate) async fn connect(settings: &Settings) -> Result<Self> {
        // Sessions are detached, as one that is given up would otherwise close itself, with its entries, once the
        // library has connected it anew. One that is let go of ends by its time.
        let connector = zk::Client::connector()
            .with_session_timeout(settings.session)
            .with_connection_timeout(silence(settings.session))
            .with_fail_eagerly()
            .with_detached();
        let connector = match &settings.digest {
            Some(digest) => connector.with_auth("digest", digest.0.as_bytes()),
            None => connector,
        };
        let connected = timeout(CONNECT, connect(connector, settings)).await;
        let (client, certificates) = connected.unwrap_or_else(|_| Err(cannot_connect(settings, zk::Error::Timeout)))?;
        let (tell, link) = watch::channel(Link::Up(0));
        // It runs where the library's own task does and ends with it, so that nobody waits for a session whose runtime
        // is gone.
        let session = Self {
            client,
            limit: settings.max_request,
            claims: Arc::default(),
            link,
            runtime: Handle::current(),
            broken: Arc::default(),
        };
        let supervision = Supervision {
            states: session.client.state_watcher(),
            patience: patience(session.client.session_timeout()),
            certificates: certificates.map(Arc::new),
            broken: Arc::clone(&session.broken),
            link: tell,
        };
        session.spawn(supervision.run());
        Ok(session)
    }

    /// The answer to a question, waited for no longer than the bound of each or the life of the session.
    pub(crate) async fn ask<T>(&self, answer: impl Future<Output = Result<T, zk::Error>>) -> Result<T, zk::Error> {
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            error = self.over() => Err(error),
            () = sleep(ANSWER) => Err(zk::Error::Timeout),
        };
        if matches!(answer, Err(zk::Error::UnexpectedError(_))) {
            self.broken.notify_one();
        }
        answer
    }

    /// Runs a task beside the library's own, for no longer than those.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(task));
    }

    /// How often it has been connected anew. To be asked before a question whose answer [`moved_on`](Self::moved_on)
    /// is to guard.
    pub(crate) fn round(&self) -> u64 {
        // While it is down, the next round is still to come: whatever is asked now is asked again then.
        if let Link::Up(round) = *self.link.borrow() { round } else { u64::MAX }
    }

    /// Waits until it is connected anew since that round, or is over.
    pub(crate) async fn moved_on(&self, round: u64) {
        let moved = |link: &Link| match link {
            Link::Up(now) => *now != round,
            Link::Down => false,
            Link::Over(_) => true,
        };
        // An error says that the supervision is gone, with its runtime; then the session is over too.
        let _ = self.link.clone().wait_for(moved).await;
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(*self.link.borrow(), Link::Over(_)) || self.link.has_changed().is_err()
    }

    /// Waits until it is over, and says why.
    async fn over(&self) -> zk::Error {
        match self.link.clone().wait_for(|link| matches!(link, Link::Over(_))).await.as_deref() {
            Ok(Link::Over(error)) => error.clone(),
            _ => zk::Error::ClientClosed,
        }
    }
}

async fn connect(connector: zk::Connector, settings: &Settings) -> Result<(zk::Client, Option<Certificates>)> {
    let certificates = match &settings.tls {
        Some(tls) => Some(Certificates::read(tls).await?),
        None => None,
    };
    let connected = match &certificates {
        Some(certificates) => certificates.connect(connector, &settings.hosts).await,
        None => connector.connect(&settings.hosts).await,
    };
    Ok((connected.map_err(|answer| cannot_connect(settings, answer))?, certificates))
}

fn cannot_connect(settings: &Settings, answer: zk::Error) -> Error {
    failed(format!("cannot connect to {}", settings.hosts), answer)
}

/// Tells how the connection stands until the session is over or nobody wants to know.
struct Supervision {
    states: zk::StateWatcher,
    /// How long a lost connection may take to come back.
    patience: Duration,
    certificates: Option<Arc<Certificates>>,
    broken: Arc<Notify>,
    link: watch::Sender<Link>,
}

impl Supervision {
    async fn run(mut self) {
        let Some(error) = self.until_over().await else { return };
        tracing::debug!(%error, "ZooKeeper session is over");
        self.link.send_replace(Link::Over(error));
        // The state stays readable for as long as somebody holds the session.
        self.link.closed().await;
    }

    /// Why it is over. None if nobody wants to know.
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

    /// The library connects anew by itself, at once and again: its next attempt but one has what the files say now.
    fn renew_certificates(&self) {
        if let Some(certificates) = self.certificates.clone() {
            drop(tokio::spawn(async move { certificates.renew().await }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{LONGEST_SESSION, SHORTEST_SESSION};

    #[test]
    fn a_connection_that_falls_silent_leaves_time_for_a_new_session_at_another_host() {
        let mut session = SHORTEST_SESSION;
        while session <= LONGEST_SESSION {
            // It is noticed, given up, and another host is connected before the old session's entries are removed.
            let anew = silence(session) + patience(session) + silence(session);
            assert!(anew <= session, "of {session:?}, {anew:?} are gone");
            session += Duration::from_millis(500);
        }
        // All hosts together have time for more than one that is silent.
        assert!(CONNECT > 2 * SILENCE);
    }
}
