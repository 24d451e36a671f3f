//! Real agents, and what a person or another tool does to them by plain HTTP.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they share")]

pub(crate) mod guarded;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use callboard_conformance::{Bounds, Harness, Server};
use callboard_consul::{Consul, ConsulBuilder};
use callboard_core::{Instance, Registry, Resolver, ServiceName};
use callboard_servers::{Cluster, ask};
use tokio::time::{Instant, sleep};

use self::guarded::Guard;

/// Short, so that tests need not wait for long.
pub(crate) const TTL: Duration = Duration::from_secs(4);

/// The backend under test, on real Consul agents.
#[derive(Debug)]
pub(crate) struct Agents {
    pub(crate) cluster: Cluster,
    /// Where the registries register. It is the last node, so that of several it is not always the leader.
    registering: SocketAddr,
    /// Where the resolvers watch.
    watching: SocketAddr,
    keeps_data: bool,
    guard: Option<Guard>,
}

impl Agents {
    pub(crate) fn on(cluster: Cluster) -> Self {
        let addresses = cluster.addresses();
        let (registering, watching) = (addresses[addresses.len() - 1], addresses[0]);
        Self { cluster, registering, watching, keeps_data: true, guard: None }
    }

    /// The same, where it is a development agent.
    pub(crate) fn on_dev(cluster: Cluster) -> Self {
        Self { keeps_data: false, ..Self::on(cluster) }
    }

    pub(crate) fn builder(&self) -> ConsulBuilder {
        Consul::builder().address(self.registering.to_string()).ttl(TTL)
    }

    pub(crate) fn consul(&self) -> Consul {
        self.builder().build().unwrap()
    }

    /// What Consul lists under a name, as its HTTP API shows it.
    pub(crate) async fn listed(&self, name: &str) -> serde_json::Value {
        let body = get(self.watching, &format!("/v1/health/service/{name}")).await;
        serde_json::from_str(&body).unwrap()
    }

    /// Waits until something passes under this name.
    pub(crate) async fn until_listed(&self, name: &str, within: Duration) {
        let give_up = Instant::now() + within;
        while get(self.watching, &format!("/v1/health/service/{name}?passing=1")).await.trim() == "[]" {
            assert!(Instant::now() < give_up, "no instance passes within {within:?}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// A request as another tool makes it, which must succeed.
    pub(crate) async fn put(&self, path: &str, body: &str) {
        put(self.registering, path, body).await;
    }
}

pub(crate) async fn put(agent: SocketAddr, path: &str, body: &str) {
    let answer = ask::http(agent, "PUT", path, &[], body).await.unwrap();
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
}

pub(crate) async fn get(agent: SocketAddr, path: &str) -> String {
    let answer = ask::http(agent, "GET", path, &[], "").await.unwrap();
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.body
}

/// The id in Consul, written by hand: these tests know it, so that a change of it is noticed.
pub(crate) fn entry(service: &ServiceName, instance: &Instance) -> String {
    format!("{service}:{}", instance.id())
}

/// Where the config of a service is, written by hand as well.
pub(crate) fn config_path(service: &ServiceName) -> String {
    format!("/v1/kv/callboard/{service}/@config")
}

/// The ids of all checks that an agent holds for an entry.
async fn checks(agent: SocketAddr, entry: &str) -> Vec<String> {
    let body = get(agent, &format!("/v1/agent/health/service/id/{entry}")).await;
    let held: serde_json::Value = serde_json::from_str(&body).unwrap();
    let checks = held["Checks"].as_array().unwrap().iter();
    checks.map(|check| check["CheckID"].as_str().unwrap().to_owned()).collect()
}

#[async_trait]
impl Harness for Agents {
    fn registry(&self) -> Arc<dyn Registry> {
        Arc::new(self.registering(self.builder()).build().unwrap())
    }

    /// The agent writes each pass to its disk, and waits for its disk and for the servers at each change.
    fn registry_for_many(&self) -> Arc<dyn Registry> {
        Arc::new(self.builder().ttl(Duration::from_secs(30)).build().unwrap())
    }

    fn resolver(&self) -> Arc<dyn Resolver> {
        Arc::new(self.watching(self.builder().address(self.watching.to_string())).build().unwrap())
    }

    fn bounds(&self) -> Bounds {
        let second = Duration::from_secs(1);
        // On a busy machine: twice the time to live; the five seconds that everything takes at most, and as much again;
        // and the longest of a pass after a time to live, a query and its timeout.
        Bounds { expiry: TTL * 2, heal: 10 * second, notice: 10 * second }
    }

    fn keeps_data(&self) -> bool {
        self.keeps_data
    }

    fn server(&self) -> &dyn Server {
        &self.cluster
    }

    async fn put_config(&self, service: &ServiceName, config: Option<&[u8]>) {
        let (path, method) = (config_path(service), if config.is_some() { "PUT" } else { "DELETE" });
        let answer = ask::http(self.registering, method, &path, &[], config.unwrap_or_default()).await.unwrap();
        assert_eq!((answer.status, answer.body.trim()), (200, "true"), "{answer:?}");
    }

    /// An entry as callboard itself would write it, but for its checks.
    async fn put_record(&self, service: &ServiceName, id: &str, record: &Instance) {
        let Some((host, port)) = record.address().host_and_port() else { panic!("not by TCP: {record:?}") };
        let body = serde_json::json!({
            "ID": format!("{service}:{id}"), "Name": service.as_str().replace('/', "--"), "Address": host, "Port": port,
            "Meta": {
                "callboard-service": service.as_str(), "callboard-incarnation": record.incarnation().to_string(),
                "callboard-claim": "forged",
            },
        });
        self.put("/v1/agent/service/register", &body.to_string()).await;
    }

    /// An entry that is meant for callboard, and has values in it that callboard has never written.
    async fn put_garbage(&self, service: &ServiceName) {
        let name = service.as_str().replace('/', "--");
        let body = format!(
            r#"{{"ID":"{service}:garbage","Name":"{name}","Address":"127.0.0.1","Port":70000,
                "Meta":{{"callboard-service":"{service}","callboard-incarnation":"soon"}}}}"#
        );
        self.put("/v1/agent/service/register", &body).await;
    }

    async fn delete(&self, service: &ServiceName, instance: &Instance) {
        self.put(&format!("/v1/agent/service/deregister/{}", entry(service, instance)), "").await;
    }

    async fn end_lease(&self, service: &ServiceName, instance: &Instance) {
        for check in checks(self.registering, &entry(service, instance)).await {
            self.put(&format!("/v1/agent/check/deregister/{check}"), "").await;
        }
    }

    /// Counts the connections to the agent that watches go to. A blocking query has one of its own.
    async fn watches(&self) -> usize {
        connections(self.watching)
    }
}

/// How many connections a server on this host has, as Linux counts them.
fn connections(server: SocketAddr) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("connections are counted as Linux shows them");
    let (port, established) = (format!(":{:04X}", server.port()), "01");
    let lines = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.filter(|fields| fields[1].ends_with(&port) && fields[3] == established).count()
}
