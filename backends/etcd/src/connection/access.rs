//! How etcd lets a client in.

use std::time::Duration;

use callboard_core::RegistryTls;
use etcd_client::ConnectOptions;

use crate::tls;

/// How often a connection with streams on it is probed while nothing else is heard. etcd ends one that is probed more often
/// than every 5 s, and one without streams that is probed at all: what is idle is found dead by the next call.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// How long a probe may stay without an answer.
const PROBE_ANSWER: Duration = Duration::from_secs(5);
/// How long it may take to connect to one member.
const CONNECT: Duration = Duration::from_secs(2);

/// Who logs in, and how a connection is secured. It holds the password: never printed.
pub(crate) struct Access {
    pub(crate) user: Option<(String, String)>,
    pub(crate) tls: Option<RegistryTls>,
    pub(crate) server_name: Option<String>,
}

impl Access {
    /// What a client is made with. The files of TLS are read again: they may have been renewed.
    pub(super) async fn options(&self) -> ConnectOptions {
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
