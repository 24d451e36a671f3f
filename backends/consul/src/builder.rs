//! The settings.

use std::fmt;
use std::time::Duration;

use callboard_core::{Error, RegistryTls, Result, Service};
use reqwest::header::HeaderValue;

use crate::Consul;
use crate::agent::{Agent, Query};
use crate::checks::{Checks, ConsulGrpcCheck};
use crate::config::Configs;
use crate::consul::Inner;
use crate::guard::Guards;
use crate::tls;
use crate::url::Place;

/// Settings of a [`Consul`]; made by [`Consul::builder`].
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
    scope: Vec<(&'static str, String)>,
    options: Vec<(&'static str, String)>,
    tags: Vec<String>,
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
            scope: Vec::new(),
            options: Vec::new(),
            tags: Vec::new(),
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

/// Where the agent is, and what is shown to it.
impl ConsulBuilder {
    /// Where the agent's HTTP API is: `host:port`, `http://host:port`, `https://host:port` or `unix:///path`. By
    /// default what the environment variable `CONSUL_HTTP_ADDR` says, or else `127.0.0.1:8500` (8501 with TLS).
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// The ACL token, shown with every request. By default what the environment variable `CONSUL_HTTP_TOKEN` says, or
    /// else none: what the agent permits to everybody. It is never printed.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Speaks HTTPS. By default only if the address says so, and then it trusts what the operating system trusts.
    pub fn tls(mut self, tls: RegistryTls) -> Self {
        self.tls = Some(tls);
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
        self.tags.push(tag.into());
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

    /// How long one blocking query waits for a change: 1 s to 10 min. 30 s by default. A change is heard at once
    /// whatever this is; it bounds how long a set can be out of date after a server has lost its data behind the
    /// agent's back.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Whether a service's config is looked for in Consul's key/value store, which takes a second blocking query, and so
    /// a second connection, for each watch. True by default.
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
    /// The time to live: a server that has fallen silent leaves the passing ones after so long. It is passed at a third
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

impl ConsulBuilder {
    /// Checks the settings and makes a backend of them, without asking the agent anything.
    ///
    /// # Errors
    /// [`Invalid`](callboard_core::ErrorKind::Invalid), naming the setting and the reason.
    pub fn build(self) -> Result<Consul> {
        self.build_in(|name| std::env::var(name).ok())
    }

    /// The same in an environment that a test can choose.
    pub(crate) fn build_in(self, environment: impl Fn(&str) -> Option<String>) -> Result<Consul> {
        let said = |name| environment(name).filter(|value| !value.is_empty());
        self.checked().and_then(|settings| settings.made(said)).map_err(|error| error.in_backend("consul"))
    }

    fn checked(self) -> Result<Self> {
        let Checks { ttl, by_ttl, grpc, deregister_after } = &self.checks;
        let second = Duration::from_secs(1);
        if *ttl < second || *ttl > 3_600 * second {
            return Err(Error::invalid(format!("ttl {ttl:?}: expected 1 s to 1 h")));
        }
        if *deregister_after < 60 * second {
            return Err(Error::invalid(format!(
                "deregister_after {deregister_after:?}: at least 1 min, because Consul takes less for that"
            )));
        }
        if !by_ttl && grpc.is_none() {
            return Err(Error::invalid("check: neither TTL nor gRPC; nothing would end the entry of a dead server"));
        }
        if self.wait < second || self.wait > 600 * second {
            return Err(Error::invalid(format!("wait {:?}: expected 1 s to 10 min", self.wait)));
        }
        if self.tags.iter().any(String::is_empty) {
            return Err(Error::invalid("tag: it is empty"));
        }
        Service::new(self.config_prefix.as_str()).map_err(|error| {
            Error::invalid(format!("config_prefix {:?}: expected segments as of a service's name", self.config_prefix))
                .with_source(error)
        })?;
        if let Some(grpc) = grpc {
            grpc.clone().checked()?;
        }
        Ok(self)
    }

    fn made(self, said: impl Fn(&'static str) -> Option<String>) -> Result<Consul> {
        let Self { address, token, tls, scope, mut options, tags, stale, only_passing, wait, .. } = self;
        let address = address.or_else(|| said("CONSUL_HTTP_ADDR")).unwrap_or_else(|| "127.0.0.1".to_owned());
        let place = Place::parse(&address, tls.is_some())?;
        let token = token.or_else(|| said("CONSUL_HTTP_TOKEN")).map(header).transpose()?;
        let tls = tls::config(tls.as_ref(), place.is_encrypted())?;
        options.extend(tags.iter().map(|tag| ("tag", tag.clone())));
        options.extend(stale.then(|| ("stale", String::new())));
        options.extend(only_passing.then(|| ("passing", "true".to_owned())));
        let agent = Agent::new(place, token, tls, scope)?;
        let configs = self.config.then(|| Configs::new(self.config_prefix, &options));
        let query = Query { options, wait, configs };
        Ok(Consul::new(Inner { agent, query, tags, checks: self.checks, guards: Guards::new() }))
    }
}

fn header(token: String) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(token)
        .map_err(|_| Error::invalid("token: it has characters that no HTTP header can hold"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Debug for ConsulBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An address with a login in it is refused when the backend is built, but may be printed before.
        let address = self.address.as_deref().map(|address| if address.contains('@') { "***" } else { address });
        f.debug_struct("ConsulBuilder")
            .field("address", &address)
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("tls", &self.tls)
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
