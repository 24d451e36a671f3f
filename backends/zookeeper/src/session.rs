//! One session with ZooKeeper, for as long as it is any good.

use std::sync::Arc;
use std::time::Duration;

use callboard_core::Result;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use zookeeper_client as zk;

use crate::failure::failed;
use crate::settings::{ANSWER, Settings};
use crate::tls;

/// How long all hosts together may take to connect. A host that is silent takes up to 3 s of it.
const CONNECT: Duration = Duration::from_secs(8);
/// How long a connection may be silent, and a host take to connect.
const SILENCE: Duration = Duration::from_secs(3);
/// How long a lost connection may take to come back before the session is given up.
const PATIENCE: Duration = Duration::from_secs(2);

/// A session, and what is known of its connection.
///
/// The client library connects a session anew by itself, with waits that double up to the length of the session. To be
/// right soon after an outage, a session that stays disconnected for longer than a fifth of its length is given up
/// here, and whoever needs one makes a new one. It is not closed: its entries live on at the server until they are
/// replaced or until it expires there, so that nobody who is live drops out of a set meanwhile.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: zk::Client,
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
            .with_connection_timeout(SILENCE.min(settings.session * 2 / 5))
            .with_fail_eagerly()
            .with_detached();
        let connector = match &settings.digest {
            Some(digest) => connector.with_auth("digest", digest.0.as_bytes()),
            None => connector,
        };
        let connected = match &settings.tls {
            Some(options) => timeout(CONNECT, tls::connect(connector, options, &settings.hosts)).await,
            None => timeout(CONNECT, connector.connect(&settings.hosts)).await,
        };
        let client = connected
            .unwrap_or(Err(zk::Error::Timeout))
            .map_err(|error| failed(format!("cannot connect to {}", settings.hosts), error))?;
        let (tell, link) = watch::channel(Link::Up(0));
        // It runs where the library's own task does and ends with it, so that nobody waits for a session whose runtime
        // is gone.
        let patience = PATIENCE.min(client.session_timeout() / 5);
        let session = Self { client, link, runtime: Handle::current(), broken: Arc::default() };
        session.spawn(supervise(session.client.state_watcher(), patience, Arc::clone(&session.broken), tell));
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

/// Tells how the connection stands until the session is over or nobody wants to know.
async fn supervise(mut states: zk::StateWatcher, patience: Duration, broken: Arc<Notify>, link: watch::Sender<Link>) {
    let mut rounds = 0;
    let mut give_up = None;
    let error = loop {
        let state = tokio::select! {
            biased;
            state = states.changed() => state,
            () = sleep_until(give_up.unwrap_or_else(Instant::now)), if give_up.is_some() => break zk::Error::ConnectionLoss,
            () = broken.notified() => break zk::Error::ClientClosed,
            () = link.closed() => return,
        };
        match state {
            zk::SessionState::Disconnected => {
                give_up.get_or_insert_with(|| Instant::now() + patience);
                link.send_replace(Link::Down);
            }
            zk::SessionState::SyncConnected | zk::SessionState::ConnectedReadOnly => {
                (rounds, give_up) = (rounds + 1, None);
                link.send_replace(Link::Up(rounds));
            }
            zk::SessionState::AuthFailed => break zk::Error::AuthFailed,
            zk::SessionState::Expired => break zk::Error::SessionExpired,
            _ => break zk::Error::ClientClosed,
        }
    };
    tracing::debug!(%error, "ZooKeeper session is over");
    link.send_replace(Link::Over(error));
    // The state stays readable for as long as somebody holds the session.
    link.closed().await;
}
