//! HAProxy, as a gRPC proxy.

use std::io;
use std::net::SocketAddr;
use std::process::Command;

use async_trait::async_trait;
use rustix::process::Signal;

use crate::ask;
use crate::installed;
use crate::plan::{Place, Plan, write_whole};
use crate::process;
use crate::server::Server;

#[derive(Debug)]
pub(crate) struct Haproxy {
    pub(crate) to: Vec<SocketAddr>,
}

#[async_trait]
impl Server for Haproxy {
    fn name(&self) -> &'static str {
        "haproxy"
    }

    fn ports(&self) -> usize {
        1
    }

    fn command(&self, plan: &Plan, node: usize) -> io::Result<Command> {
        let place = &plan.places[node];
        write_whole(&place.config(), self.config(plan, place))?;
        let mut command = process::command(installed::program("haproxy"));
        // A master with workers, as its service has it: the master stays when the configuration is read anew.
        command.args(["-W", "-f"]).arg(place.config()).args(&plan.settings.args);
        Ok(command)
    }

    async fn ready(&self, plan: &Plan, node: usize) -> io::Result<()> {
        ask::listens(plan.places[node].address()).await
    }

    fn reload(&self, plan: &Plan, node: usize) -> io::Result<Option<Signal>> {
        write_whole(&plan.places[node].config(), self.config(plan, &plan.places[node]))?;
        Ok(Some(Signal::USR2))
    }
}

impl Haproxy {
    /// The times are those of its own examples, and of Debian's file, which also has the socket by which one worker
    /// hands its listeners to the next.
    fn config(&self, plan: &Plan, place: &Place) -> String {
        let server = |(number, server): (usize, &SocketAddr)| format!("    server s{number} {server} proto h2\n");
        let servers: String = self.to.iter().enumerate().map(server).collect();
        let written = |line: &String| format!("    {line}\n");
        let (times, more): (Vec<_>, Vec<_>) =
            plan.settings.config.iter().map(written).partition(|line| line.trim_start().starts_with("timeout"));
        format!(
            "
global
    stats socket {socket} mode 600 level admin expose-fd listeners
defaults
    mode http
    timeout connect 5s
    timeout client 50s
    timeout server 50s
{times}backend servers
    balance roundrobin
{servers}frontend grpc
    bind {address} proto h2
    default_backend servers
{more}",
            socket = place.directory().join("admin").display(),
            address = place.address(),
            times = times.concat(),
            more = more.concat(),
        )
    }
}
