//! [`EtcdBuilder`]: the settings, and their bounds.

use std::fmt;
use std::time::Duration;

use callboard_core::{Address, Error, RegistryTls, Result, masked_url};

use crate::client::{Client, Options, check_ttl};
use crate::error::in_backend;
use crate::record::{DEFAULT_PREFIX, Layout};
use crate::registry::Etcd;

const DEFAULT_PORT: u16 = 2379;
const DEFAULT_TTL: Duration = Duration::from_secs(15);
const DEFAULT_RELIST: Duration = Duration::from_secs(600);
const SHORTEST_RELIST: Duration = Duration::from_secs(1);

/// The settings of an [`Etcd`].
///
/// ```
/// use std::time::Duration;
/// use callboard_etcd::Etcd;
///
/// let etcd = Etcd::builder(["10.0.0.1", "10.0.0.2", "10.0.0.3:12379"])
///     .user("app", "hunter2")
///     .prefix("/teams/a")
///     .ttl(Duration::from_secs(10))
///     .build()?;
/// # Ok::<(), callboard_core::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "settings do nothing until they are built"]
pub struct EtcdBuilder {
    endpoints: Vec<String>,
    user: Option<(String, String)>,
    tls: Option<RegistryTls>,
    server_name: Option<String>,
    prefix: String,
    ttl: Duration,
    relist: Duration,
}

impl Etcd {
    /// Begins with the members of a cluster, each `host`, `host:port`, `[v6]` or `[v6]:port`. The port is 2379 by
    /// default.
    pub fn builder<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> EtcdBuilder {
        EtcdBuilder::new(endpoints.into_iter().map(Into::into).collect())
    }
}

impl EtcdBuilder {
    pub(crate) fn new(endpoints: Vec<String>) -> Self {
        let prefix = DEFAULT_PREFIX.to_owned();
        Self { endpoints, user: None, tls: None, server_name: None, prefix, ttl: DEFAULT_TTL, relist: DEFAULT_RELIST }
    }

    /// The user to log in as, and the password. None by default.
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some((name.into(), password.into()));
        self
    }

    /// Connects by TLS. In plain text by default.
    pub fn tls(mut self, tls: RegistryTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The name that etcd's certificates must be for, with TLS. By default the host of each endpoint.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// What the keys of all services begin with. Servers and clients that are to find each other have the same.
    /// `/callboard` by default.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// How long an entry outlives a server that dies without revoking it, and how long etcd may be out of reach before
    /// the server takes its entry as lost. Whole seconds, from 3 s to 10 min. 15 s by default.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// How often a watch lists everything again without any other reason, ±10 %. It repairs the set if an event should
    /// ever be lost. At least 1 s. 10 min by default.
    pub fn relist(mut self, every: Duration) -> Self {
        self.relist = every;
        self
    }

    /// Checks the settings. No I/O: etcd need not run yet.
    ///
    /// # Errors
    /// [`Invalid`](callboard_core::ErrorKind::Invalid), naming the setting, and why it cannot be used.
    pub fn build(&self) -> Result<Etcd> {
        self.checked().map_err(in_backend)
    }

    fn checked(&self) -> Result<Etcd> {
        let layout = Layout::new(&self.prefix)?;
        check_ttl(self.ttl).map_err(|why| Error::invalid(format!("ttl {:?}: expected {why}", self.ttl)))?;
        check_relist(self.relist).map_err(|why| Error::invalid(format!("relist {:?}: expected {why}", self.relist)))?;
        if self.endpoints.is_empty() {
            return Err(Error::invalid("no endpoint: name at least one host, such as etcd://10.0.0.1:2379"));
        }
        if self.tls.is_none() && self.server_name.is_some() {
            return Err(Error::invalid(
                "server_name: without TLS there is no certificate that it could be compared with",
            ));
        }
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let endpoints = self.endpoints.iter().map(|host| Ok(format!("{scheme}://{}", address(host)?)));
        let endpoints = endpoints.collect::<Result<Vec<_>>>()?;
        let (user, tls, server_name) = (self.user.clone(), self.tls.clone(), self.server_name.clone());
        let client = Client::new(Options { endpoints, user, tls, server_name });
        Ok(Etcd::new(client, layout, self.ttl, self.relist))
    }
}

/// Checks how often everything is listed again; the error says what is expected.
pub(crate) fn check_relist(every: Duration) -> Result<(), &'static str> {
    if every >= SHORTEST_RELIST { Ok(()) } else { Err("at least 1s") }
}

/// A host with its port.
fn address(host: &str) -> Result<Address> {
    let has_port = host.contains(':') && !host.ends_with(']');
    let address: Result<Address> = if has_port { host.parse() } else { format!("{host}:{DEFAULT_PORT}").parse() };
    let why = match address {
        // The client library makes a URL of it, which has no zone.
        Ok(address) if address.host_and_port().is_some_and(|(host, _)| host.contains('%')) => {
            "an IPv6 address with a zone is not taken here".to_owned()
        }
        Ok(address) if address.host_and_port().is_some() => return Ok(address),
        Ok(_) => "it is no host".to_owned(),
        Err(error) => error.message().to_owned(),
    };
    Err(Error::invalid(format!("endpoint {:?}: {why}", masked_url(host))))
}

impl fmt::Debug for EtcdBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdBuilder")
            .field("endpoints", &self.endpoints.iter().map(|host| masked_url(host)).collect::<Vec<_>>())
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .field("tls", &self.tls)
            .field("server_name", &self.server_name)
            .field("prefix", &self.prefix)
            .field("ttl", &self.ttl)
            .field("relist", &self.relist)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> EtcdBuilder {
        Etcd::builder(["127.0.0.1"])
    }

    #[test]
    fn bad_settings_are_refused_with_the_setting_and_the_reason() {
        let seconds = Duration::from_secs;
        for (builder, why) in [
            (Etcd::builder(Vec::<String>::new()), "no endpoint"),
            (Etcd::builder(["h:99999"]), r#"endpoint "h:99999""#),
            (Etcd::builder(["a b"]), r#"endpoint "a b""#),
            (Etcd::builder(["unix:/run/etcd.sock"]), "no host"),
            (Etcd::builder(["unix-abstract:etcd"]), "no host"),
            (Etcd::builder(["[fe80::1%eth0]:2379"]), "zone is not taken"),
            (Etcd::builder(["http://h"]), r#"endpoint "http://h""#),
            (builder().ttl(seconds(2)), "ttl 2s: expected whole seconds from 3s to 10m"),
            (builder().ttl(seconds(601)), "ttl 601s"),
            (builder().ttl(Duration::from_millis(4500)), "ttl 4.5s"),
            (builder().relist(Duration::from_millis(999)), "relist 999ms: expected at least 1s"),
            (builder().prefix("/"), "prefix"),
        ] {
            let error = builder.build().expect_err(why);
            assert!(error.to_string().contains(why) && error.backend() == Some("etcd"), "{error}");
        }
        assert_eq!(Etcd::builder(["[::1]"]).build().map(|_| ()).ok(), Some(()));
        assert_eq!(address("[::1]").expect("an address").to_string(), "[::1]:2379");
        assert_eq!(address("h:1").expect("an address").to_string(), "h:1");
    }

    #[test]
    fn the_password_is_not_shown() {
        let login = Etcd::builder(["http://app:hunter2@h:2379", "h:1?pass=hunter2"]);
        let error = login.clone().build().expect_err("a host has no login");
        for shown in [format!("{login:?}"), error.to_string(), format!("{error:?}")] {
            assert!(!shown.contains("hunter2") && shown.contains("app:***@h"), "{shown}");
        }
        let builder = builder().user("app", "hunter2");
        let etcd = builder.build().expect("good settings");
        for shown in [format!("{builder:?}"), format!("{etcd:?}"), format!("{etcd:#?}")] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert!(format!("{builder:?}").contains("app"));
    }
}
