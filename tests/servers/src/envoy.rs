//! Envoy, as a gRPC proxy.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use rustix::process::Signal;

use crate::ask;
use crate::installed;
use crate::plan::{Place, Plan, write_whole};
use crate::process;
use crate::server::Server;

/// How many listeners were written.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
pub(crate) struct Envoy {
    pub(crate) to: Vec<SocketAddr>,
}

#[async_trait]
impl Server for Envoy {
    fn name(&self) -> &'static str {
        "envoy"
    }

    fn ports(&self) -> usize {
        1
    }

    fn command(&self, plan: &Plan, node: usize) -> io::Result<Command> {
        let place = &plan.places[node];
        write_whole(&listeners(place), Self::listener(plan, place))?;
        write_whole(&place.config(), self.config(place))?;
        let mut command = process::command(installed::program("envoy"));
        // What a restart would hand on is shared by all Envoys of a machine, and there are several.
        command.arg("-c").arg(place.config()).args(["-l", "warn", "--disable-hot-restart"]).args(&plan.settings.args);
        Ok(command)
    }

    async fn ready(&self, plan: &Plan, node: usize) -> io::Result<()> {
        ask::listens(plan.places[node].address()).await
    }

    /// The file is watched; a listener in it that has changed takes the place of the one before, which is drained.
    fn reload(&self, plan: &Plan, node: usize) -> io::Result<Option<Signal>> {
        let place = &plan.places[node];
        write_whole(&listeners(place), Self::listener(plan, place)).map(|()| None)
    }
}

fn listeners(place: &Place) -> PathBuf {
    place.directory().join("listeners.yaml")
}

impl Envoy {
    fn config(&self, place: &Place) -> String {
        let endpoint = |to: &SocketAddr| {
            let (ip, port) = (to.ip(), to.port());
            format!("        - endpoint: {{address: {{socket_address: {{address: {ip}, port_value: {port}}}}}}}\n")
        };
        let endpoints: String = self.to.iter().map(endpoint).collect();
        format!(
            r#"
node: {{id: proxy, cluster: proxies}}
dynamic_resources:
  lds_config: {{resource_api_version: V3, path_config_source: {{path: {listeners}}}}}
static_resources:
  clusters:
  - name: servers
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {{http2_protocol_options: {{}}}}
    load_assignment:
      cluster_name: servers
      endpoints:
      - lb_endpoints:
{endpoints}"#,
            listeners = listeners(place).display(),
        )
    }

    /// Each differs from the one before by the name under which it counts.
    fn listener(plan: &Plan, place: &Place) -> String {
        let more: String = plan.settings.config.iter().map(|line| format!("          {line}\n")).collect();
        format!(
            r#"
resources:
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  name: grpc
  address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
  filter_chains:
  - filters:
    - name: envoy.filters.network.http_connection_manager
      typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: grpc_{number}
          codec_type: AUTO
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{match: {{prefix: "/"}}, route: {{cluster: servers}}}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
{more}"#,
            port = place.port(0),
            number = WRITTEN.fetch_add(1, Ordering::Relaxed),
        )
    }
}
