//! nghttpx, as a gRPC proxy.

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
pub(crate) struct Nghttpx {
    pub(crate) to: Vec<SocketAddr>,
}

#[async_trait]
impl Server for Nghttpx {
    fn name(&self) -> &'static str {
        "nghttpx"
    }

    fn ports(&self) -> usize {
        1
    }

    fn command(&self, plan: &Plan, node: usize) -> io::Result<Command> {
        let place = &plan.places[node];
        write_whole(&place.config(), self.config(plan, place))?;
        let mut command = process::command(installed::program("nghttpx"));
        command.arg("--conf").arg(place.config()).args(&plan.settings.args);
        Ok(command)
    }

    async fn ready(&self, plan: &Plan, node: usize) -> io::Result<()> {
        ask::listens(plan.places[node].address()).await
    }

    fn reload(&self, plan: &Plan, node: usize) -> io::Result<Option<Signal>> {
        write_whole(&plan.places[node].config(), self.config(plan, &plan.places[node]))?;
        Ok(Some(Signal::HUP))
    }
}

impl Nghttpx {
    fn config(&self, plan: &Plan, place: &Place) -> String {
        let backend = |to: &SocketAddr| format!("backend={},{};;proto=h2\n", to.ip(), to.port());
        let backends: String = self.to.iter().map(backend).collect();
        let more: String = plan.settings.config.iter().map(|line| format!("{line}\n")).collect();
        format!("frontend=127.0.0.1,{};no-tls\nerrorlog-file=/dev/stderr\n{backends}{more}", place.port(0))
    }
}
