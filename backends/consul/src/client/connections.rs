//! Connections to the agent: an HTTP client for each runtime, made anew when the files of TLS have changed.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use callboard_core::{Error, RegistryPems, RegistryTls, Result};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, redirect};
use tokio::runtime::{Handle, Id};
use tokio::time::Instant;
use tokio_rustls::rustls::ClientConfig;

use super::query_slots::SHORT;
use super::tls;
use crate::error::BACKEND;

/// The time limit for connecting. A local agent accepts a connection at once, or not at all.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a connection is kept that is not used. This is longer than the time between two passes, unless the time to
/// live is above 90 s. Then each pass may have to connect.
const IDLE: Duration = Duration::from_secs(30);
/// How many runtimes keep their connections.
const RUNTIMES: usize = 4;
/// How often the files are read again. They are also read again when a request has failed.
const READ_EVERY: Duration = Duration::from_secs(10);

/// What makes connections to the agent.
pub(crate) struct Connections {
    headers: HeaderMap,
    socket: Option<PathBuf>,
    /// None where HTTP is spoken, or where the settings say nothing about TLS.
    tls: Option<RegistryTls>,
    made: Mutex<Made>,
}

/// What has been made of the files as they were read last.
struct Made {
    pems: Option<Arc<RegistryPems>>,
    config: ClientConfig,
    /// When the files are read again.
    next: Instant,
    /// One for each runtime, because a connection is driven by the runtime that has opened it, and is of no use when that
    /// one has ended or does not run. The client that was used last is the last one.
    clients: Vec<(Option<Id>, Client)>,
}

impl Connections {
    pub(crate) fn new(
        token: Option<HeaderValue>,
        socket: Option<PathBuf>,
        tls: Option<RegistryTls>,
        encrypted: bool,
    ) -> Result<Self> {
        let mut headers = HeaderMap::new();
        if let Some(token) = token {
            headers.insert("X-Consul-Token", token);
        }
        let tls = tls.filter(|_| encrypted);
        let pems = tls.as_ref().map(RegistryTls::pems);
        let config = tls::config(pems.as_deref(), encrypted)?;
        let made = Made { pems, config, next: Instant::now() + READ_EVERY, clients: Vec::new() };
        let connections = Self { headers, socket, tls, made: Mutex::new(made) };
        // What is wrong with the settings is found now, and not at the first request.
        connections.make(&connections.made().config)?;
        Ok(connections)
    }

    pub(crate) fn has_token(&self) -> bool {
        self.headers.contains_key("X-Consul-Token")
    }

    /// The client of this runtime.
    pub(crate) async fn client(&self) -> Result<Client> {
        if let Some(tls) = &self.tls
            && self.made().next <= Instant::now()
        {
            let pems = tls.read_again().await;
            self.renew(pems);
        }
        let here = Handle::try_current().ok().map(|runtime| runtime.id());
        let mut made = self.made();
        if let Some(place) = made.clients.iter().rposition(|(runtime, _)| *runtime == here) {
            let found = made.clients.remove(place);
            made.clients.push(found);
        } else {
            let client = self.make(&made.config)?;
            made.clients.push((here, client));
        }
        if made.clients.len() > RUNTIMES {
            made.clients.remove(0);
        }
        let (_, client) = &made.clients[made.clients.len() - 1];
        Ok(client.clone())
    }

    /// Has the files read before the next request. This one has failed, perhaps because of them.
    pub(crate) fn read_tls_again(&self) {
        if self.tls.is_some() {
            self.made().next = Instant::now();
        }
    }

    /// Makes connections by what the files say now, if that has changed and can be used. What is under way goes on over
    /// the connection that it has.
    fn renew(&self, pems: Arc<RegistryPems>) {
        let mut made = self.made();
        made.next = Instant::now() + READ_EVERY;
        if made.pems.as_ref().is_some_and(|before| Arc::ptr_eq(before, &pems)) {
            return;
        }
        match tls::config(Some(&pems), true) {
            Ok(config) => {
                made.config = config;
                made.clients.clear();
            }
            Err(error) => {
                let error = error.chain();
                tracing::warn!(backend = BACKEND, error, "TLS: the files cannot be used; what was read before is used");
            }
        }
        made.pems = Some(pems);
    }

    fn make(&self, tls: &ClientConfig) -> Result<Client> {
        let http = Client::builder()
            .default_headers(self.headers.clone())
            .no_proxy()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            // What was opened beside another connection that became free in the meantime is not kept.
            .pool_max_idle_per_host(SHORT)
            .tls_backend_preconfigured(tls.clone());
        #[cfg(unix)]
        let http = match &self.socket {
            Some(path) => http.unix_socket(path.clone()),
            None => http,
        };
        http.build().map_err(|error| Error::invalid("the HTTP client cannot be made").with_source(error))
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        // Each change is complete in itself, so a poisoned lock can be used.
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("socket", &self.socket)
            .field("tls", &self.tls)
            .field("token", &self.has_token().then_some("***"))
            .finish_non_exhaustive()
    }
}
