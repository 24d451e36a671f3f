//! From settings to a backend.

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{Error, Result, ServiceName};
use reqwest::header::HeaderValue;

use super::ConsulBuilder;
use crate::client::{Agent, AgentAddress, FEWEST_CONNECTIONS, Http};
use crate::config::Configs;
use crate::error::BACKEND;
use crate::lease::Leases;
use crate::record::Checks;
use crate::registry::Consul;
use crate::watch::Watches;

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
        let variable = |name| environment(name).filter(|value| !value.is_empty());
        self.checked().and_then(|settings| settings.made(variable)).map_err(|error| error.in_backend(BACKEND))
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
        if self.connections < FEWEST_CONNECTIONS || self.connections > 10_000 {
            return Err(Error::invalid(format!(
                "connections {}: expected {FEWEST_CONNECTIONS} to 10,000",
                self.connections
            )));
        }
        self.tags.check()?;
        ServiceName::new(self.config_prefix.as_str()).map_err(|error| {
            Error::invalid(format!("config_prefix {:?}: expected segments as of a service's name", self.config_prefix))
                .with_source(error)
        })?;
        if let Some(grpc) = grpc {
            grpc.clone().checked()?;
        }
        Ok(self)
    }

    fn made(self, variable: impl Fn(&'static str) -> Option<String>) -> Result<Consul> {
        let Self { address, token, tls, scope, mut options, tags, stale, only_passing, wait, .. } = self;
        let address = address.or_else(|| variable("CONSUL_HTTP_ADDR")).unwrap_or_else(|| "127.0.0.1".to_owned());
        let agent = AgentAddress::parse(&address, tls.is_some())?;
        let token = token.or_else(|| variable("CONSUL_HTTP_TOKEN")).map(header).transpose()?;
        options.extend(tags.options());
        options.extend(stale.then(|| ("stale", String::new())));
        options.extend(only_passing.then(|| ("passing", "true".to_owned())));
        let http = Http::new(agent, token, tls, scope)?;
        let agent = Arc::new(Agent::new(http, self.connections, self.config));
        let configs = || Arc::new(Configs::new(Arc::clone(&agent), self.config_prefix, wait, &options));
        let configs = self.config.then(configs);
        let leases = Leases::new(Arc::clone(&agent), tags, self.checks);
        Ok(Consul::new(leases, Watches { agent, options, wait, configs }))
    }
}

fn header(token: String) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(token)
        .map_err(|_| Error::invalid("token: it has characters that no HTTP header can hold"))?;
    value.set_sensitive(true);
    Ok(value)
}
