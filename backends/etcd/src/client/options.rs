//! Where etcd is, and how a client connects and logs in.

use std::time::Duration;

use callboard_core::RegistryTls;
use etcd_client::ConnectOptions;

use super::tls;

/// How often a connection with streams on it is probed while nothing else arrives. etcd ends a connection that is
/// probed more often than every 5 s, and one without streams that is probed at all. A dead idle connection is found by
/// the next call.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// How long a probe may stay without an answer.
const PROBE_ANSWER: Duration = Duration::from_secs(5);
/// How long it may take to connect to one member.
const CONNECT: Duration = Duration::from_secs(2);

/// The endpoints, the user and the TLS settings. It holds the password, so it is never printed.
pub(crate) struct Options {
    pub(crate) endpoints: Vec<String>,
    pub(crate) user: Option<(String, String)>,
    pub(crate) tls: Option<RegistryTls>,
    pub(crate) server_name: Option<String>,
}

impl Options {
    /// The options of a new client. The files of TLS are read again, as they may have been renewed.
    pub(super) async fn connect_options(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .with_keep_alive(PROBE_EVERY, PROBE_ANSWER)
            .with_keep_alive_while_idle(false)
            .with_connect_timeout(CONNECT)
            .with_require_leader(true)
            .with_auto_token_refresh(true);
        if let Some((name, password)) = &self.user {
            options = options.with_user(name, password);
        }
        if let Some(tls) = &self.tls {
            options = options.with_tls(tls::options(&*tls.read_again().await, self.server_name.as_deref()));
        }
        options
    }
}
