//! [`ZooKeeperBuilder`]: the settings, and their bounds.

use std::fmt;
use std::time::Duration;

use callboard_core::{Address, RegistryTls, Result, masked_url};
use zookeeper_client::{Acl, AuthId, Permission};

use crate::client::{LONGEST_SESSION, SHORTEST_SESSION, Secret, Settings, check_tls};
use crate::error::invalid;
use crate::record;
use crate::registry::ZooKeeper;

/// The default of ZooKeeper's `jute.maxbuffer`.
const MAX_REQUEST: usize = 0xf_ffff;
/// The longest paths and a record of the usual size fit into less.
const LEAST_REQUEST: usize = 16_384;

/// Who may change what callboard makes in ZooKeeper.
///
/// It holds for the nodes of instances and of services alike, because ZooKeeper checks the access list of the parent
/// when a node is deleted. Nodes that are there already keep their lists.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZooKeeperAccess {
    /// Everybody may read, change and delete.
    Open,
    /// Everybody may read. Clients with the same user and password may change and delete.
    Creator,
}

/// The settings of a [`ZooKeeper`]. Made by [`ZooKeeper::builder`].
///
/// ```
/// use std::time::Duration;
/// use callboard_zookeeper::ZooKeeper;
///
/// let zookeeper = ZooKeeper::builder(["zk1:2181", "zk2:2181", "zk3:2181"])
///     .session(Duration::from_secs(20))
///     .digest("app", "hunter2")
///     .build()?;
/// # Ok::<(), callboard_core::Error>(())
/// ```
#[must_use]
#[derive(Clone)]
pub struct ZooKeeperBuilder {
    hosts: Vec<String>,
    root: String,
    chroot: String,
    session: Duration,
    digest: Option<(String, String)>,
    access: Option<ZooKeeperAccess>,
    tls: Option<RegistryTls>,
    max_request: usize,
}

impl ZooKeeper {
    /// Begins with the hosts, each `host`, `host:port`, `[v6]` or `[v6]:port`, with port 2181 by default. Name all
    /// members of the ensemble: one that is not named cannot be used when the others are gone.
    pub fn builder<H: Into<String>>(hosts: impl IntoIterator<Item = H>) -> ZooKeeperBuilder {
        ZooKeeperBuilder::new(hosts.into_iter().map(Into::into).collect())
    }
}

impl ZooKeeperBuilder {
    fn new(hosts: Vec<String>) -> Self {
        Self {
            hosts,
            root: "/callboard".to_owned(),
            chroot: "/".to_owned(),
            session: Duration::from_secs(15),
            digest: None,
            access: None,
            tls: None,
            max_request: MAX_REQUEST,
        }
    }

    /// The node that services are below. `/callboard` by default; `/` for none.
    pub fn root(mut self, root: impl Into<String>) -> Self {
        self.root = root.into();
        self
    }

    /// The node that the root is below, as other clients write it at the end of their connection string. It is made
    /// if it is not there. `/` by default: none.
    pub fn chroot(mut self, chroot: impl Into<String>) -> Self {
        self.chroot = chroot.into();
        self
    }

    /// The time to live: how long entries outlast a process that dies, and how long ZooKeeper may be out of reach
    /// before it removes those of a live one. The server may grant another time, within its own bounds. 15 s by
    /// default; from 6 s to 1 h.
    pub fn session(mut self, session: Duration) -> Self {
        self.session = session;
        self
    }

    /// The user and the password, by ZooKeeper's scheme `digest`. ZooKeeper does not check them; they are compared with
    /// the access list of each node. None by default.
    ///
    /// Without [`tls`](Self::tls) they are sent in plain text.
    pub fn digest(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.digest = Some((user.into(), password.into()));
        self
    }

    /// Who may change the nodes that are made. [`ZooKeeperAccess::Creator`] by default if there is a user and a
    /// password, and [`ZooKeeperAccess::Open`] if there is not.
    pub fn access(mut self, access: ZooKeeperAccess) -> Self {
        self.access = Some(access);
        self
    }

    /// Connects by TLS, and trusts the CA that this names; the system's are not read here. In plain text by default.
    ///
    /// Without this crate's feature `tls` (callboard's `zookeeper-tls`), [`build`](Self::build) refuses it.
    pub fn tls(mut self, tls: RegistryTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How many bytes a request may have: the value of the servers' `jute.maxbuffer`. A server closes the connection on
    /// which it receives more, so a record or a config that would need more is refused here, as
    /// [`Invalid`](callboard_core::ErrorKind::Invalid). 1,048,575 by default, as in ZooKeeper; at least 16,384.
    pub fn max_request(mut self, bytes: usize) -> Self {
        self.max_request = bytes;
        self
    }

    /// Checks the settings. No server is contacted.
    ///
    /// # Errors
    /// [`Invalid`](callboard_core::ErrorKind::Invalid), with what is wrong.
    pub fn build(self) -> Result<ZooKeeper> {
        if self.session < SHORTEST_SESSION || self.session > LONGEST_SESSION {
            return Err(invalid(format!(
                "session {:?}: at least {SHORTEST_SESSION:?}, as a shorter one is lost while a client connects anew, \
                 and at most {LONGEST_SESSION:?}",
                self.session
            )));
        }
        if self.max_request < LEAST_REQUEST {
            return Err(invalid(format!("max_request {}: at least {LEAST_REQUEST} bytes", self.max_request)));
        }
        let access = match (self.access, &self.digest) {
            (Some(ZooKeeperAccess::Creator), None) => {
                return Err(invalid("access for the creator alone needs a user and a password"));
            }
            (Some(access), _) => access,
            (None, Some(_)) => ZooKeeperAccess::Creator,
            (None, None) => ZooKeeperAccess::Open,
        };
        let digest = self.digest.map(|(user, password)| digest(&user, &password)).transpose()?;
        let hosts = hosts(&self.hosts)?;
        if let Some(tls) = &self.tls {
            check_tls(tls, &hosts)?;
        }
        Ok(ZooKeeper::new(Settings {
            hosts,
            prefix: record::prefix("chroot", &self.chroot)? + &record::prefix("root", &self.root)?,
            session: self.session,
            digest: digest.map(Secret),
            acl: acl(access),
            tls: self.tls,
            max_request: self.max_request,
        }))
    }
}

/// Shows everything except secrets.
impl fmt::Debug for ZooKeeperBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hosts, root, chroot, session, digest, access, tls, max_request } = self;
        f.debug_struct("ZooKeeperBuilder")
            .field("hosts", &hosts.iter().map(|host| masked_url(host)).collect::<Vec<_>>())
            .field("root", root)
            .field("chroot", chroot)
            .field("session", session)
            .field("user", &digest.as_ref().map(|(user, _)| user))
            .field("access", access)
            .field("tls", tls)
            .field("max_request", max_request)
            .finish()
    }
}

/// The form that ZooKeeper's scheme `digest` takes. ZooKeeper splits it at the first `:`.
fn digest(user: &str, password: &str) -> Result<String> {
    if user.is_empty() || user.contains(':') {
        return Err(invalid(format!("user {user:?}: it must not be empty nor have a ':' in it")));
    }
    Ok(format!("{user}:{password}"))
}

fn acl(access: ZooKeeperAccess) -> Vec<Acl> {
    match access {
        ZooKeeperAccess::Open => vec![Acl::new(Permission::ALL, AuthId::anyone())],
        ZooKeeperAccess::Creator => {
            vec![Acl::new(Permission::ALL, AuthId::authed()), Acl::new(Permission::READ, AuthId::anyone())]
        }
    }
}

fn hosts(hosts: &[String]) -> Result<String> {
    if hosts.is_empty() {
        return Err(invalid("no host: name all members of the ensemble, such as zk1:2181,zk2:2181,zk3:2181"));
    }
    Ok(hosts.iter().map(|host| with_port(host)).collect::<Result<Vec<_>>>()?.join(","))
}

/// `host:port`, checked, because the client library splits it again.
fn with_port(host: &str) -> Result<String> {
    let complaint = || {
        let shown = masked_url(host);
        invalid(format!("host {shown:?}: expected a host's name or address, and perhaps ':' and a port"))
    };
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port.parse().map_err(|_| complaint())?),
        _ => (host, 2181_u16),
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let v6 = bare.parse::<std::net::Ipv6Addr>().is_ok();
    if Address::tcp(bare, port).is_err() || v6 != (bare != name) {
        return Err(complaint());
    }
    Ok(format!("{name}:{port}"))
}

#[cfg(test)]
mod tests {
    use callboard_core::ErrorKind;

    use super::*;
    use crate::error::BACKEND;

    fn builder() -> ZooKeeperBuilder {
        ZooKeeper::builder(["zk1", "zk2:2182", "[::1]", "[::1]:7"])
    }

    #[test]
    fn every_host_gets_a_port() {
        assert_eq!(hosts(&builder().hosts).expect("good hosts"), "zk1:2181,zk2:2182,[::1]:2181,[::1]:7");
    }

    #[test]
    fn wrong_settings_are_refused_with_the_reason() {
        let short = Duration::from_millis(5999);
        for (built, why) in [
            (ZooKeeper::builder::<&str>([]).build(), "no host"),
            (ZooKeeper::builder(["a:b"]).build(), "host \"a:b\""),
            (ZooKeeper::builder(["a:0"]).build(), "host \"a:0\""),
            (ZooKeeper::builder(["a/b:1"]).build(), "host \"a/b:1\""),
            (ZooKeeper::builder(["::1"]).build(), "host \"::1\""),
            (ZooKeeper::builder([""]).build(), "host \"\""),
            (builder().session(short).build(), "at least 6s, as a shorter one is lost"),
            (builder().session(Duration::from_secs(3601)).build(), "at most 3600s"),
            (builder().root("callboard").build(), "root \"callboard\""),
            (builder().chroot("/a/").build(), "chroot \"/a/\""),
            (builder().access(ZooKeeperAccess::Creator).build(), "needs a user and a password"),
            (builder().max_request(16_383).build(), "max_request 16383: at least 16384"),
            (builder().digest("", "x").build(), "user \"\""),
        ] {
            let error = built.expect_err(why);
            assert_eq!((error.kind(), error.backend()), (ErrorKind::Invalid, Some(BACKEND)));
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let login = ZooKeeper::builder(["app:hunter2@zk1"]);
        let error = login.clone().build().expect_err("a host has no login");
        for shown in [format!("{login:?}"), error.to_string()] {
            assert!(!shown.contains("hunter2") && shown.contains("app:***@zk1"), "{shown}");
        }
        let builder = builder().digest("app", "hunter2");
        assert!(!format!("{builder:?}").contains("hunter2"), "{builder:?}");
        let zookeeper = ZooKeeper::builder(["zk1"]).digest("app", "hunter2").build().expect("good settings");
        assert!(!format!("{zookeeper:?}").contains("hunter2"), "{zookeeper:?}");
    }
}
