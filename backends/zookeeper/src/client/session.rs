//! One session with ZooKeeper, for as long as it is usable.

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Error, Result};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use zookeeper_client as zk;

use super::settings::{ANSWER, Settings};
use super::supervision::{Link, Supervision};
use super::tls::Certificates;
use crate::error::failed;

/// How long all hosts together may take to connect. A host that is silent takes up to 3 s of it.
const CONNECT: Duration = Duration::from_secs(8);
/// How long a connection may be silent, and a host take to connect, at the longest.
const SILENCE: Duration = Duration::from_secs(3);
/// How long a lost connection may take to come back before the session is given up, at the longest.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often a step is tried again that another client has interfered with, before that is an error.
pub(crate) const TRIES: usize = 5;

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
/// The client library connects a session anew by itself, with waits that double up to the length of the session. To
/// recover soon after an outage, a session that stays disconnected for longer than a fifth of its length is given up
/// here, and a new one is made when it is needed. It is not closed: its entries stay at the server until they are
/// replaced or until it expires there, so that no live instance drops out of a set meanwhile.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: zk::Client,
    /// How many bytes a request may have.
    pub(crate) limit: usize,
    link: watch::Receiver<Link>,
    /// Where it was made.
    runtime: Handle,
    /// Notified when the library returns an error that it never should: its own task is gone, or has read nonsense.
    broken: Arc<Notify>,
}

impl Session {
    pub(crate) async fn connect(settings: &Settings) -> Result<Self> {
        // Sessions are detached. Otherwise one that is given up would close itself, with its entries, once the library
        // has connected it anew. A detached session that is dropped expires.
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
        let (reports, link) = watch::channel(Link::Up(0));
        // The supervision runs where the library's own task does and ends with it, so that nothing waits for a session
        // whose runtime is gone.
        let session =
            Self { client, limit: settings.max_request, link, runtime: Handle::current(), broken: Arc::default() };
        let supervision = Supervision {
            states: session.client.state_watcher(),
            patience: patience(session.client.session_timeout()),
            certificates: certificates.map(Arc::new),
            broken: Arc::clone(&session.broken),
            link: reports,
        };
        session.spawn(supervision.run());
        Ok(session)
    }

    /// The answer to a request, waited for no longer than the bound of a request or the life of the session.
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

    /// Makes the node of a service, and those above it.
    pub(crate) async fn make_directory(&self, directory: &str, acl: &[zk::Acl]) -> Result<(), zk::Error> {
        let persistent = zk::CreateMode::Persistent.with_acls(acl.into());
        self.ask(self.client.mkdir(directory, &persistent)).await
    }

    /// Spawns a task on the runtime of the session.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(self.runtime.spawn(task));
    }

    /// How often it has been connected anew. Take it before a request, and wait with [`moved_on`](Self::moved_on) for
    /// the moment from which the answer may be outdated.
    pub(crate) fn round(&self) -> u64 {
        // While it is down, the next round is still to come, and what is read now is read again then.
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

    /// Waits until it is over. Returns why.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::settings::{LONGEST_SESSION, SHORTEST_SESSION};

    #[test]
    fn a_connection_that_falls_silent_leaves_time_for_a_new_session_at_another_host() {
        let mut session = SHORTEST_SESSION;
        while session <= LONGEST_SESSION {
            // It is noticed, given up, and another host is connected before the old session's entries are removed.
            let anew = silence(session) + patience(session) + silence(session);
            assert!(anew <= session, "of {session:?}, {anew:?} have passed");
            session += Duration::from_millis(500);
        }
        // All hosts together have time for more than one that is silent.
        assert!(CONNECT > 2 * SILENCE);
    }
}
