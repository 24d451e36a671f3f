//! nginx, as a gRPC proxy.

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
pub(crate) struct Nginx {
    pub(crate) to: Vec<SocketAddr>,
}

#[async_trait]
impl Server for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn ports(&self) -> usize {
        1
    }

    fn command(&self, plan: &Plan, node: usize) -> io::Result<Command> {
        let place = &plan.places[node];
        write_whole(&place.config(), self.config(plan, place))?;
        let mut command = process::command(installed::program("nginx"));
        command.arg("-p").arg(place.directory()).arg("-c").arg(place.config()).args(["-e", "stderr"]);
        command.args(&plan.settings.args);
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

impl Nginx {
    /// As nginx's own pages on gRPC have it. Without the upstream's `keepalive`, each call would take a connection, and
    /// a test's load all ports that there are.
    fn config(&self, plan: &Plan, place: &Place) -> String {
        let servers: String = self.to.iter().map(|server| format!("        server {server};\n")).collect();
        let more: String = plan.settings.config.iter().map(|line| format!("        {line}\n")).collect();
        format!(
            r#"
daemon off;
worker_processes auto;
pid nginx.pid;
user root root;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    scgi_temp_path scgi;
    uwsgi_temp_path uwsgi;
    upstream servers {{
{servers}        keepalive 64;
    }}
    server {{
        listen {address} http2;
        location / {{ grpc_pass grpc://servers; }}
{more}    }}
}}
"#,
            address = place.address()
        )
    }
}
