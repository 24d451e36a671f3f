//! etcd.

use std::io;
use std::process::Command;

use async_trait::async_trait;

use crate::ask;
use crate::installed;
use crate::plan::Plan;
use crate::process;
use crate::server::{Server, not_ready};

const PEERS: usize = 1;
/// Health and figures, in plain HTTP and without a password, whatever clients have to bring.
const METRICS: usize = 2;

#[derive(Debug)]
pub(crate) struct Etcd;

#[async_trait]
impl Server for Etcd {
    fn name(&self) -> &'static str {
        "etcd"
    }

    fn ports(&self) -> usize {
        3
    }

    fn linked(&self) -> Option<usize> {
        Some(PEERS)
    }

    fn command(&self, plan: &Plan, node: usize) -> io::Result<Command> {
        let place = &plan.places[node];
        let tls = plan.settings.args.iter().any(|arg| arg.starts_with("--cert-file"));
        let clients = format!("{}://{}", if tls { "https" } else { "http" }, place.address());
        let members: Vec<_> =
            (0..plan.places.len()).map(|member| format!("{}={}", name(member), reached(plan, member))).collect();
        let mut command = process::command(installed::program("etcd"));
        command.arg("--name").arg(name(node)).arg("--data-dir").arg(place.data());
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &format!("http://{}", place.at(PEERS))]);
        command.args(["--initial-advertise-peer-urls", &reached(plan, node)]);
        command.args(["--initial-cluster", &members.join(",")]);
        command.args(["--listen-metrics-urls", &format!("http://{}", place.at(METRICS))]);
        command.args(["--log-level", "warn"]).args(&plan.settings.args);
        command.args(plan.settings.config.iter().map(|line| format!("--{line}")));
        Ok(command)
    }

    async fn ready(&self, plan: &Plan, node: usize) -> io::Result<()> {
        let answer = ask::http(plan.places[node].at(METRICS), "GET", "/health", &[], "").await?;
        if answer.status == 200 { Ok(()) } else { Err(not_ready(answer)) }
    }

    async fn leads(&self, plan: &Plan, node: usize) -> io::Result<bool> {
        let answer = ask::http(plan.places[node].at(METRICS), "GET", "/metrics", &[], "").await?;
        Ok(answer.body.lines().any(|line| line == "etcd_server_is_leader 1"))
    }
}

fn name(node: usize) -> String {
    format!("n{}", node + 1)
}

/// Where the others reach a member.
fn reached(plan: &Plan, member: usize) -> String {
    let direct = || plan.places[member].at(PEERS);
    format!("http://{}", plan.links.as_ref().map_or_else(direct, |links| links.address(member)))
}
