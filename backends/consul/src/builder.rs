//! The settings.

mod build;

use std::fmt;
use std::time::Duration;

use callboard_core::{RegistryTls, masked_url};

use crate::record::{Checks, ConsulGrpcCheck, Tags};
use crate::registry::Consul;

impl Consul {
    /// Begins with the defaults: see each setting.
    pub fn builder() -> ConsulBuilder {
        ConsulBuilder::default()
    }
}

/// Settings of a [`Consul`](crate::Consul); made by [`Consul::builder`](crate::Consul::builder).
///
/// ```
/// use std::time::Duration;
/// use callboard_consul::Consul;
///
/// let consul = Consul::builder().address("127.0.0.1:8500").datacenter("dc1").ttl(Duration::from_secs(10)).build()?;
/// # Ok::<(), callboard_core::Error>(())
/// ```
#[derive(Clone)]
#[must_use = "settings do nothing before `build`"]
pub struct ConsulBuilder {
    address: Option<String>,
    token: Option<String>,
    tls: Option<RegistryTls>,
    connections: usize,
    scope: Vec<(&'static str, String)>,
    options: Vec<(&'static str, String)>,
    tags: Tags,
    stale: bool,
    only_passing: bool,
    wait: Duration,
    config: bool,
    config_prefix: String,
    checks: Checks,
}

impl Default for ConsulBuilder {
    fn default() -> Self {
        Self {
            address: None,
            token: None,
            tls: None,
            connections: 100,
            scope: Vec::new(),
            options: Vec::new(),
            tags: Tags::default(),
            stale: false,
            only_passing: true,
            wait: Duration::from_secs(30),
            config: true,
            config_prefix: "callboard".to_owned(),
            checks: Checks {
                ttl: Duration::from_secs(15),
                by_ttl: true,
                grpc: None,
                deregister_after: Duration::from_secs(60),
            },
        }
    }
}

/// Where the agent is, and how it is reached.
impl ConsulBuilder {
    /// Where the agent's HTTP API is: `host:port`, `http://host:port`, `https://host:port` or `unix:///path`. By
    /// default the environment variable `CONSUL_HTTP_ADDR`, or else `127.0.0.1:8500` (8501 with TLS).
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// The ACL token, sent with every request. By default the environment variable `CONSUL_HTTP_TOKEN`, or else none: then
    /// the agent permits what it permits to anonymous requests. It is never printed.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Speaks HTTPS. By default only if the address begins with `https://`, and then it trusts what the operating system
    /// trusts. Files are read again every 10 s while requests are made, and before the next request when one has failed.
    /// New connections use what was read last.
    pub fn tls(mut self, tls: RegistryTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// How many connections to the agent there are at most, those of all clones together: 40 to 10,000, 100 by default. An
    /// agent grants 200 to each host, unless its `limits.http_max_conns_per_client` is set. Where more services are
    /// watched than that allows, they take turns, and changes are seen later: see the crate's own page.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// The namespace (Consul Enterprise). Not sent by default; other editions refuse it.
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.scope.push(("ns", name.into()));
        self
    }

    /// The admin partition (Consul Enterprise). Not sent by default; other editions refuse it.
    pub fn partition(mut self, name: impl Into<String>) -> Self {
        self.scope.push(("partition", name.into()));
        self
    }
}

/// What is watched.
impl ConsulBuilder {
    /// The datacenter whose instances are watched. By default the agent's own. Registering is always in the agent's own.
    pub fn datacenter(mut self, name: impl Into<String>) -> Self {
        self.options.push(("dc", name.into()));
        self
    }

    /// A tag: instances that are registered get it, and instances without it are not watched. It can be given several
    /// times. None by default.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.add(tag.into());
        self
    }

    /// A filter in Consul's own language, such as `Service.Meta.version == "2"`. None by default. A filter that Consul
    /// cannot read gives an error when the service is watched.
    pub fn filter(mut self, expression: impl Into<String>) -> Self {
        self.options.push(("filter", expression.into()));
        self
    }

    /// A node, or `_agent`: the set is ordered by the round trip from there. By default Consul's order, which has no
    /// meaning.
    pub fn near(mut self, node: impl Into<String>) -> Self {
        self.options.push(("near", node.into()));
        self
    }

    /// Whether any server may answer, without asking the leader: it goes on without one, and the set may be old. False
    /// by default.
    pub fn stale(mut self, stale: bool) -> Self {
        self.stale = stale;
        self
    }

    /// Whether instances are left out whose checks do not all pass. True by default.
    pub fn only_passing(mut self, only_passing: bool) -> Self {
        self.only_passing = only_passing;
        self
    }

    /// How long one blocking query waits for a change, at most: 1 s to 10 min. 30 s by default. A change is seen at
    /// once, however long this is. It bounds how long a set can be out of date after a server has lost its data without
    /// the agent's notice, or after the token has lost the right to see it.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Whether a service's config is watched in Consul's key/value store, which takes a second blocking query for
    /// each watch, and a third of the connections for such queries. True by default.
    pub fn config(mut self, config: bool) -> Self {
        self.config = config;
        self
    }

    /// What the keys of all configs begin with: `callboard` by default, so that the config of the service `project/test`
    /// is `callboard/project/test/@config`. Letters, digits, `.`, `_` and `-`, and a `/` between two of them.
    pub fn config_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.config_prefix = prefix.into();
        self
    }
}

/// How instances are registered.
impl ConsulBuilder {
    /// The time to live: after so long without a pass a server's check becomes critical. The lease passes it every third
    /// of this. 1 s at least. 15 s by default.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.checks.ttl = ttl;
        self
    }

    /// Whether instances have a TTL check, which their lease passes. True by default. Without it there has to be a
    /// [`grpc_check`](Self::grpc_check), and an entry ends with its server, not with its lease.
    pub fn ttl_check(mut self, ttl_check: bool) -> Self {
        self.checks.by_ttl = ttl_check;
        self
    }

    /// Has the agent ask each instance whether it serves, beside the TTL check or without it. No such check by default.
    pub fn grpc_check(mut self, check: ConsulGrpcCheck) -> Self {
        self.checks.grpc = Some(check);
        self
    }

    /// After how long an entry whose check is critical is removed from Consul altogether. 1 min by default, which is
    /// Consul's own minimum; less is refused.
    pub fn deregister_after(mut self, time: Duration) -> Self {
        self.checks.deregister_after = time;
        self
    }
}

impl fmt::Debug for ConsulBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An address with a login in it is refused when the backend is built, but may be printed before.
        let address = self.address.as_deref().map(masked_url);
        f.debug_struct("ConsulBuilder")
            .field("address", &address)
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("tls", &self.tls)
            .field("connections", &self.connections)
            .field("scope", &self.scope)
            .field("options", &self.options)
            .field("tags", &self.tags)
            .field("stale", &self.stale)
            .field("only_passing", &self.only_passing)
            .field("wait", &self.wait)
            .field("config", &self.config)
            .field("config_prefix", &self.config_prefix)
            .field("checks", &self.checks)
            .finish()
    }
}
