//! The settings that have been checked, and the bounds of the client.

use std::fmt;
use std::time::Duration;

use callboard_core::RegistryTls;
use zookeeper_client::Acl;

/// The bound of each request to ZooKeeper.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// A shorter session is lost to one wait of the client library's reconnection, whose waits double from 100 ms.
pub(crate) const SHORTEST_SESSION: Duration = Duration::from_secs(6);
/// ZooKeeper itself grants at most 40 s unless its settings have been changed.
pub(crate) const LONGEST_SESSION: Duration = Duration::from_secs(3600);

/// Settings that have been checked.
#[derive(Debug)]
pub(crate) struct Settings {
    /// `host:port`, separated by commas.
    pub(crate) hosts: String,
    /// What the paths of all services begin with.
    pub(crate) prefix: String,
    pub(crate) session: Duration,
    pub(crate) digest: Option<Secret>,
    pub(crate) acl: Vec<Acl>,
    pub(crate) tls: Option<RegistryTls>,
    pub(crate) max_request: usize,
}

/// A text that `Debug` does not show.
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
