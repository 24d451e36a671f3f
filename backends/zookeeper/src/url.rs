//! Reading the settings from a dial URL.

use callboard_core::{RegistryTls, Result, Target, TargetOptions};

use crate::builder::{ZooKeeperAccess, ZooKeeperBuilder};
use crate::error::invalid;
use crate::registry::ZooKeeper;

impl ZooKeeper {
    /// Makes one of a dial URL: `zookeeper://[user:password@]host[:port][,...]/service[?key=value&...]`. The crate's
    /// page lists the keys. The service is not used. No server is contacted; files that are named are read.
    ///
    /// ```
    /// use callboard_core::Target;
    /// use callboard_zookeeper::ZooKeeper;
    ///
    /// let target: Target = "zookeeper://zk1,zk2,zk3/project/test?root=/services&session=20s".parse()?;
    /// let mut options = target.options();
    /// let zookeeper = ZooKeeper::from_target(&target, &mut options)?;
    /// options.finish()?;
    /// # Ok::<(), callboard_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Invalid`](callboard_core::ErrorKind::Invalid), with what is wrong.
    pub fn from_target(target: &Target, options: &mut TargetOptions<'_>) -> Result<Self> {
        builder(target, options)?.build()
    }
}

/// Reads the hosts, the credentials and this backend's keys.
fn builder(target: &Target, options: &mut TargetOptions<'_>) -> Result<ZooKeeperBuilder> {
    let mut builder = ZooKeeper::builder(target.hosts());
    if let Some(root) = options.text("root") {
        builder = builder.root(root);
    }
    if let Some(chroot) = options.text("chroot") {
        builder = builder.chroot(chroot);
    }
    if let Some(session) = options.duration("session")? {
        builder = builder.session(session);
    }
    if let Some(bytes) = options.number("max_request")? {
        builder = builder.max_request(usize::try_from(bytes).unwrap_or(usize::MAX));
    }
    builder = match options.text("acl") {
        None => builder,
        Some("open") => builder.access(ZooKeeperAccess::Open),
        Some("creator") => builder.access(ZooKeeperAccess::Creator),
        Some(_) => return Err(options.invalid("acl", "open or creator")),
    };
    builder = match (target.user(), target.password()) {
        (None, None) => builder,
        (Some(user), Some(password)) => builder.digest(user, password),
        _ => {
            return Err(invalid("a user without a password, or the reverse: expected user:password@ before the hosts"));
        }
    };
    Ok(match RegistryTls::from_options(options)? {
        None => builder,
        Some(tls) => builder.tls(tls),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> Result<ZooKeeper> {
        let target: Target = url.parse()?;
        let mut options = target.options();
        let zookeeper = ZooKeeper::from_target(&target, &mut options)?;
        options.finish().map(|()| zookeeper)
    }

    #[test]
    fn every_key_is_read() {
        let zookeeper =
            read("zookeeper://app:hunter2@h1,h2:2182/project/test?root=/services&chroot=/x&session=20s&acl=open&max_request=20000")
                .expect("a good URL");
        let shown = format!("{zookeeper:?}");
        for part in ["h1:2181,h2:2182", "/x/services", "20s", "***", "anyone", "20000"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_bad_url_is_refused_with_the_reason() {
        for (query, why) in [
            ("?session=3s", "at least 6s"),
            ("?session=soon", "a duration"),
            ("?max_request=9", "max_request 9: at least"),
            ("?max_request=big", "\"max_request\""),
            ("?acl=mine", "open or creator"),
            ("?acl=creator", "needs a user and a password"),
            ("?root=x", "root \"x\""),
            ("?registry_ca=/nowhere/ca.pem", "/nowhere/ca.pem"),
            ("?registry_cert=/c", "\"registry_key\" beside it"),
            ("?registry_tls=false&registry_ca=/c", "true, or nothing"),
            (
                "?ttl=5s",
                "known here: acl, chroot, max_request, registry_ca, registry_cert, registry_key, registry_tls, root, session",
            ),
        ] {
            let error = read(&format!("zookeeper://h1/s{query}")).expect_err(query).to_string();
            assert!(error.contains(why), "{query}: {error}");
        }
        let error = read("zookeeper://app@h1/s").expect_err("no password").to_string();
        assert!(error.contains("a user without a password"), "{error}");
    }
}
