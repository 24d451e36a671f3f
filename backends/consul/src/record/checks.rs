//! The checks by which Consul tells whether an instance is alive.

use std::time::Duration;

use callboard_core::{Address, Error, Result};
use serde::Serialize;

use super::duration::millis;

/// A check by which the agent itself asks the instance, by gRPC's health protocol (`grpc.health.v1`), whether it
/// serves. Given to [`ConsulBuilder::grpc_check`](crate::ConsulBuilder::grpc_check).
///
/// The agent calls the instance's address, so it must be one that the agent can reach; a Unix socket cannot be checked.
///
/// ```
/// use std::time::Duration;
/// use callboard_consul::{Consul, ConsulGrpcCheck};
///
/// let consul = Consul::builder().grpc_check(ConsulGrpcCheck::default().every(Duration::from_secs(2))).build()?;
/// # Ok::<(), callboard_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsulGrpcCheck {
    every: Duration,
    tls: bool,
    service: Option<String>,
}

impl Default for ConsulGrpcCheck {
    fn default() -> Self {
        Self { every: Duration::from_secs(5), tls: false, service: None }
    }
}

impl ConsulGrpcCheck {
    /// How often the agent asks; also how long it waits for the answer. 100 ms at least, refused below that when the
    /// backend is built. 5 s by default.
    #[must_use]
    pub fn every(mut self, interval: Duration) -> Self {
        self.every = interval;
        self
    }

    /// Whether the agent calls by TLS. False by default.
    #[must_use]
    pub fn tls(mut self, tls: bool) -> Self {
        self.tls = tls;
        self
    }

    /// The name that the health service is asked about, such as `hello.HelloService`. None by default: the server as
    /// a whole.
    #[must_use]
    pub fn service(mut self, name: impl Into<String>) -> Self {
        self.service = Some(name.into());
        self
    }

    pub(crate) fn checked(self) -> Result<Self> {
        if self.every < Duration::from_millis(100) {
            return Err(Error::invalid(format!("gRPC check: every {:?} is too often, 100 ms at least", self.every)));
        }
        Ok(self)
    }
}

/// The checks that an entry is registered with.
#[derive(Clone, Debug)]
pub(crate) struct Checks {
    /// How long the check may go without a pass, and how long the lease goes on trying to pass it.
    pub(crate) ttl: Duration,
    /// Whether there is a TTL check, which the lease passes.
    pub(crate) by_ttl: bool,
    pub(crate) grpc: Option<ConsulGrpcCheck>,
    /// How long an entry stays in Consul after it has become critical.
    pub(crate) deregister_after: Duration,
}

/// A check, as it is sent to the agent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Check {
    #[serde(rename = "CheckID")]
    id: String,
    name: &'static str,
    /// The status until the first result. Of no effect on a check that is there already.
    status: &'static str,
    deregister_critical_service_after: String,
    #[serde(rename = "TTL", skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
    #[serde(rename = "GRPC", skip_serializing_if = "Option::is_none")]
    grpc: Option<String>,
    #[serde(rename = "GRPCUseTLS", skip_serializing_if = "Option::is_none")]
    tls: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
}

/// The id of the check that the lease of this claim passes. It has the claim in it, so that no lease can pass the
/// check of another one on the same entry.
pub(crate) fn ttl_check_id(entry: &str, claim: &str) -> String {
    format!("callboard:{entry}:{claim}")
}

/// The id of the check by which the agent asks the instance of this claim.
pub(crate) fn grpc_check_id(entry: &str, claim: &str) -> String {
    format!("callboard-grpc:{entry}:{claim}")
}

/// Whether it is the id of a check of this entry that some claim has made.
pub(crate) fn is_check_of(entry: &str, check: &str) -> bool {
    [ttl_check_id(entry, ""), grpc_check_id(entry, "")].iter().any(|ours| check.starts_with(ours))
}

impl Check {
    /// Sets the status with which it begins, if it is a gRPC check.
    pub(crate) fn grpc_begins(&mut self, status: &'static str) {
        if self.grpc.is_some() {
            self.status = status;
        }
    }
}

impl Checks {
    /// The checks of one claim.
    ///
    /// # Errors
    /// `Invalid`, if the address cannot be checked in this way.
    pub(crate) fn of(&self, entry: &str, claim: &str, address: &Address) -> Result<Vec<Check>> {
        let check = |id, name| Check {
            id,
            name,
            status: "passing",
            deregister_critical_service_after: millis(self.deregister_after),
            ttl: None,
            grpc: None,
            tls: None,
            interval: None,
            timeout: None,
        };
        let mut checks = Vec::new();
        if self.by_ttl {
            let id = ttl_check_id(entry, claim);
            checks.push(Check { ttl: Some(millis(self.ttl)), ..check(id, "callboard: the server passes this itself") });
        }
        if let Some(grpc) = &self.grpc {
            let id = grpc_check_id(entry, claim);
            checks.push(Check {
                grpc: Some(called_at(address, grpc.service.as_deref())?),
                tls: Some(grpc.tls),
                interval: Some(millis(grpc.every)),
                timeout: Some(millis(grpc.every)),
                ..check(id, "callboard: the agent asks grpc.health.v1")
            });
        }
        Ok(checks)
    }
}

fn called_at(address: &Address, service: Option<&str>) -> Result<String> {
    match (address.host_and_port(), service) {
        (Some(_), None) => Ok(address.to_string()),
        (Some(_), Some(service)) => Ok(format!("{address}/{service}")),
        _ => Err(Error::invalid(format!(
            "address {address}: Consul's gRPC check needs host:port; use the TTL check alone"
        ))),
    }
}
