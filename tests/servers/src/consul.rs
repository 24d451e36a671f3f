//! Consul.

use std::io;
use std::process::Command;

use async_trait::async_trait;

use crate::ask::{self, Answer};
use crate::installed;
use crate::plan::Plan;
use crate::process;
use crate::server::{Server, not_ready};

const GOSSIP: usize = 1;
const RAFT: usize = 2;

/// Quick elections; and a restart is not taken for a farewell.
const CONFIG: &str = "performance { raft_multiplier = 1 } leave_on_terminate = false";

#[derive(Debug)]
pub(crate) struct Consul {
    /// Stores nothing, and is faster.
    pub(crate) dev: bool,
}

#[async_trait]
impl Server for Consul {
    fn name(&self) -> &'static str {
        "consul"
    }

    fn ports(&self) -> usize {
        3
    }

    fn command(&self, plan: &Plan, node: usize) -> io::Result<Command> {
        let place = &plan.places[node];
        let mut command = process::command(installed::program("consul"));
        command.args(["agent", "-bind=127.0.0.1", "-client=127.0.0.1", "-log-level=warn"]);
        command.args(["-dns-port=-1", "-grpc-port=-1", "-grpc-tls-port=-1", "-serf-wan-port=-1"]);
        command.arg(format!("-node=n{}", node + 1)).arg(format!("-http-port={}", place.port(0)));
        command.arg(format!("-serf-lan-port={}", place.port(GOSSIP)));
        command.arg(format!("-server-port={}", place.port(RAFT)));
        if self.dev {
            command.arg("-dev");
        } else {
            command.arg("-server").arg(format!("-bootstrap-expect={}", plan.places.len()));
            command.arg("-data-dir").arg(place.data()).arg(format!("-hcl={CONFIG}"));
        }
        if plan.places.len() > 1 {
            command.args(plan.places.iter().map(|place| format!("-retry-join={}", place.at(GOSSIP))));
            command.arg("-retry-interval=1s");
        }
        command.args(&plan.settings.args).args(plan.settings.config.iter().map(|hcl| format!("-hcl={hcl}")));
        Ok(command)
    }

    async fn ready(&self, plan: &Plan, node: usize) -> io::Result<()> {
        // A leader alone is not enough: what is asked before the node is in the catalog gets an error.
        for path in ["/v1/status/leader", "/v1/catalog/nodes"] {
            let answer = get(plan, node, path).await?;
            if answer.status != 200 || matches!(answer.body.trim(), "\"\"" | "[]") {
                return Err(not_ready(answer));
            }
        }
        Ok(())
    }

    async fn leads(&self, plan: &Plan, node: usize) -> io::Result<bool> {
        let leader = get(plan, node, "/v1/status/leader").await?.body;
        Ok(leader.trim() == format!("\"{}\"", plan.places[node].at(RAFT)))
    }
}

async fn get(plan: &Plan, node: usize, path: &str) -> io::Result<Answer> {
    let token = plan.settings.token.as_ref().map(|token| format!("X-Consul-Token: {token}"));
    let headers: Vec<_> = token.as_deref().into_iter().collect();
    ask::http(plan.places[node].address(), "GET", path, &headers, "").await
}
