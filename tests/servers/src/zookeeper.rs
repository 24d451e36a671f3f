//! ZooKeeper.

use std::fs;
use std::io;
use std::process::Command;

use async_trait::async_trait;

use crate::ask;
use crate::installed;
use crate::plan::Plan;
use crate::process;
use crate::server::{Server, not_ready};

const QUORUM: usize = 1;
const ELECTION: usize = 2;

/// It starts faster so, asks for no more memory than a test's data need, and does not wait for the disk: tests kill
/// processes, not machines.
const JAVA: &[&str] = &["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.forceSync=no"];

#[derive(Debug)]
pub(crate) struct Zookeeper;

#[async_trait]
impl Server for Zookeeper {
    fn name(&self) -> &'static str {
        "zookeeper"
    }

    fn ports(&self) -> usize {
        3
    }

    fn command(&self, plan: &Plan, node: usize) -> io::Result<Command> {
        let place = &plan.places[node];
        let file = place.directory().join("zoo.cfg");
        fs::write(&file, config(plan, node))?;
        fs::create_dir_all(place.data())?;
        fs::write(place.data().join("myid"), (node + 1).to_string())?;
        let mut command = process::command(installed::java());
        command.args(JAVA).args(&plan.settings.args).arg("-cp").arg(installed::zookeeper());
        command.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(file);
        Ok(command)
    }

    async fn ready(&self, plan: &Plan, node: usize) -> io::Result<()> {
        let answer = ask::four_letters(plan.places[node].address(), "srvr").await?;
        if mode(&answer).is_some() { Ok(()) } else { Err(not_ready(answer)) }
    }

    async fn leads(&self, plan: &Plan, node: usize) -> io::Result<bool> {
        let answer = ask::four_letters(plan.places[node].address(), "srvr").await?;
        Ok(matches!(mode(&answer), Some("leader" | "standalone")))
    }
}

fn config(plan: &Plan, node: usize) -> String {
    let place = &plan.places[node];
    let mut lines = vec![
        "tickTime=1000".to_owned(),
        "minSessionTimeout=2000".to_owned(),
        "maxSessionTimeout=60000".to_owned(),
        format!("dataDir={}", place.data().display()),
        format!("clientPort={}", place.port(0)),
        "clientPortAddress=127.0.0.1".to_owned(),
        "maxClientCnxns=0".to_owned(),
        "admin.enableServer=false".to_owned(),
        "4lw.commands.whitelist=*".to_owned(),
    ];
    if plan.places.len() > 1 {
        lines.extend(["initLimit=10".to_owned(), "syncLimit=5".to_owned()]);
        lines.extend(plan.places.iter().enumerate().map(|(node, place)| {
            format!("server.{}=127.0.0.1:{}:{}", node + 1, place.port(QUORUM), place.port(ELECTION))
        }));
    }
    lines.extend(plan.settings.config.iter().cloned());
    lines.join("\n") + "\n"
}

/// The node's part, if it has one: a member without a quorum has not.
fn mode(answer: &str) -> Option<&str> {
    answer.lines().find_map(|line| line.strip_prefix("Mode: "))
}
