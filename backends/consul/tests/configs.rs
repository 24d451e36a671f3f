//! A service's config in Consul's store: the rights to read and write it, and where it is stored.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they share")]

mod agents;

use std::sync::Arc;
use std::time::Duration;

use agents::{Agents, config_path, get};
use callboard_conformance::{Harness, Log, Seen, Watcher};
use callboard_consul::{Consul, ConsulBuilder};
use callboard_core::{ErrorKind, Instance, Registry, Resolver, ServiceName, Snapshot, Snapshots};
use callboard_servers::{Cluster, ask};
use futures_util::StreamExt;
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);
const ONE: &str = r#"{"loadBalancingConfig":[{"round_robin":{}}]}"#;
const OTHER: &str = r#"{"loadBalancingConfig":[{"pick_first":{}}]}"#;
const ROOT: &str = "6a1253d2-1785-24fd-91c2-f8e78c745511";
const OURS: &str = "45a3bd52-07c7-47a4-52fd-0745e0cfe967";

fn service(name: &str) -> ServiceName {
    name.parse().unwrap()
}

fn project() -> ServiceName {
    service("project/test")
}

fn instance(id: &str) -> Instance {
    Instance::new(id, "127.0.0.1:1".parse().unwrap()).unwrap()
}

async fn dev() -> Agents {
    Agents::on_dev(Cluster::consul_dev().start().await)
}

fn built(builder: ConsulBuilder) -> Consul {
    builder.build().unwrap()
}

async fn next(watch: &mut Snapshots) -> Snapshot {
    timeout(SOON, watch.next()).await.expect("a set").expect("it has not ended").unwrap()
}

/// The next set that is as expected. There may be others before it: Consul tells of more than callboard looks at.
async fn until(watch: &mut Snapshots, expected: impl Fn(&Snapshot) -> bool) -> Snapshot {
    loop {
        let set = next(watch).await;
        if expected(&set) {
            return set;
        }
    }
}

fn says(config: Option<&str>) -> impl Fn(&Seen) -> bool {
    move |seen| seen.set.is_some() && seen.config.as_deref() == config.map(str::as_bytes)
}

async fn as_root(agents: &Agents, method: &str, path: &str, body: &str) -> String {
    let token = format!("X-Consul-Token: {ROOT}");
    let answer = ask::http(agents.cluster.address(), method, path, &[&token], body).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

/// An agent that permits nothing without a token, and a token that has what services have always needed.
async fn guarded() -> (Agents, String) {
    let acl = format!(
        r#"acl {{ enabled = true, default_policy = "deny", tokens {{ initial_management = "{ROOT}", agent = "{ROOT}" }} }}"#
    );
    let agents = Agents::on_dev(Cluster::consul_dev().config(acl).token(ROOT).start().await);
    let policy = as_root(&agents, "PUT", "/v1/acl/policy", &policy("")).await;
    let policy: serde_json::Value = serde_json::from_str(&policy).unwrap();
    let token = format!(r#"{{"SecretID":"{OURS}","Policies":[{{"Name":"ours"}}]}}"#);
    as_root(&agents, "PUT", "/v1/acl/token", &token).await;
    (agents, format!("/v1/acl/policy/{}", policy["ID"].as_str().unwrap()))
}

fn policy(more: &str) -> String {
    let rules = r#"service_prefix \"\" { policy = \"write\" } node_prefix \"\" { policy = \"read\" }"#;
    format!(r#"{{"Name":"ours","Rules":"{rules} {more}"}}"#)
}

/// A token without a right to the store: a service is found and registered as before, and one line is logged of what is
/// missing. When the right is given, the config is there.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn without_the_right_to_read_it_there_is_no_config_and_all_else_works() {
    let (agents, policy_path) = guarded().await;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    as_root(&agents, "PUT", &config_path(&project()), ONE).await;
    let consul = built(agents.builder().token(OURS).wait(Duration::from_secs(1)));
    let watchers = [(); 2].map(|()| Watcher::new(Arc::new(consul.clone()), &project()));
    let lease = consul.register(&project(), &instance("a")).await.unwrap();
    for watcher in &watchers {
        let seen = watcher.until_ids(SOON, "without a config", &["a"]).await;
        assert_eq!((seen.config, seen.stale.is_none()), (None, true));
    }
    for config in [Some(OTHER), None] {
        let refused = consul.put_service_config(&project(), config).await.unwrap_err();
        assert_eq!((refused.kind(), refused.service()), (ErrorKind::Denied, Some(&project())), "{refused:?}");
        assert!(refused.to_string().contains("key:write for configs"), "{refused}");
    }

    as_root(&agents, "PUT", &policy_path, &policy(r#"key_prefix \"callboard/\" { policy = \"write\" }"#)).await;
    watchers[0].until(Duration::from_secs(60), "the right is given", says(Some(ONE))).await;
    consul.put_service_config(&project(), Some(OTHER)).await.unwrap();
    for watcher in &watchers {
        watcher.until(Duration::from_secs(60), "changed", says(Some(OTHER))).await;
    }
    lease.revoke().await.unwrap();
    let log = log.take();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("the service's config cannot be read")).collect();
    assert_eq!(lines.len(), 1, "once by each client: {log}");
    for part in ["WARN", "callboard/project/test/@config", "project/test", "key:read"] {
        assert!(lines[0].contains(part), "{part}: {}", lines[0]);
    }
    assert!(!log.contains(OURS), "{log}");
}

/// Each service has its own, whatever its name is in Consul's catalog.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_config_stands_under_the_services_own_name() {
    let agents = dev().await;
    let names = ["project/test", "project--test", "Project/Test", "project-test", "project"];
    for name in names {
        agents.consul().put_service_config(&service(name), Some(&format!(r#"{{"of":"{name}"}}"#))).await.unwrap();
    }
    for name in names {
        let expected = format!(r#"{{"of":"{name}"}}"#);
        let stored = get(agents.cluster.address(), &format!("/v1/kv/callboard/{name}/@config?raw")).await;
        assert_eq!(stored, expected);
        let set = next(&mut agents.consul().watch(&service(name))).await;
        assert_eq!(set.config.as_deref(), Some(expected.as_bytes()));
    }
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_config_may_stand_elsewhere_and_whatever_narrows_the_set() {
    let agents = dev().await;
    let builder = || {
        let narrow = agents.builder().datacenter("dc1").stale(true).tag("v1").near("_agent").only_passing(false);
        narrow.filter(r#"Service.Meta.x == "y""#).config_prefix("ours/all.of-them")
    };
    let watcher = Watcher::new(Arc::new(built(builder())), &project());
    built(builder()).put_service_config(&project(), Some(ONE)).await.unwrap();
    watcher.until(SOON, "put", says(Some(ONE))).await;
    let path = "/v1/kv/ours/all.of-them/project/test/@config";
    assert_eq!(get(agents.cluster.address(), &format!("{path}?raw")).await, ONE);
    agents.put(path, OTHER).await;
    watcher.until(SOON, "put by hand", says(Some(OTHER))).await;
    built(builder()).put_service_config(&project(), None).await.unwrap();
    watcher.until(SOON, "removed", says(None)).await;
    let error = built(agents.builder().datacenter("mars")).put_service_config(&project(), Some(ONE)).await.unwrap_err();
    assert!(error.to_string().contains("datacenter"), "{error}");
}

/// Then it is as if there were none.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn configs_can_be_turned_off() {
    let agents = dev().await;
    agents.put_config(&project(), Some(ONE.as_bytes())).await;
    let off = built(agents.builder().config(false));
    let mut watch = off.watch(&project());
    assert_eq!(next(&mut watch).await, Snapshot::default());
    let refused = off.put_service_config(&project(), Some(OTHER)).await.unwrap_err();
    assert_eq!((refused.kind(), refused.service()), (ErrorKind::Unsupported, Some(&project())), "{refused:?}");
    let _lease = off.register(&project(), &instance("a")).await.unwrap();
    let set = until(&mut watch, |set| !set.instances.is_empty()).await;
    assert_eq!(set.config, None);
}

/// Whatever else happens; and an empty one is not none.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_config_that_has_not_changed_is_the_same_allocation() {
    let agents = dev().await;
    agents.put_config(&project(), Some(b"")).await;
    let mut watch = agents.consul().watch(&project());
    let first = next(&mut watch).await.config.expect("an empty config");
    assert!(first.is_empty());
    let _lease = agents.consul().register(&project(), &instance("a")).await.unwrap();
    let set = until(&mut watch, |set| !set.instances.is_empty()).await;
    assert!(Arc::ptr_eq(&first, &set.config.unwrap()));
    agents.put_config(&project(), Some(ONE.as_bytes())).await;
    let set = until(&mut watch, |set| set.config.as_deref() == Some(ONE.as_bytes())).await;
    assert_eq!(set.instances.len(), 1);
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_config_is_as_large_as_consul_allows() {
    let agents = dev().await;
    let text = |length: usize| format!(r#"{{"note":"{}"}}"#, "x".repeat(length));
    let large = text(500 * 1024);
    agents.consul().put_service_config(&project(), Some(&large)).await.unwrap();
    assert_eq!(next(&mut agents.consul().watch(&project())).await.config.as_deref(), Some(large.as_bytes()));
    let refused = agents.consul().put_service_config(&project(), Some(&text(600 * 1024))).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused:?}");
    assert!(refused.to_string().contains("524288"), "{refused}");
}

/// Writing at the same moment is no error, and the last write wins.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn putting_and_removing_a_config_at_the_same_moment_is_no_error() {
    let agents = dev().await;
    let watcher = Watcher::new(agents.resolver(), &project());
    let writers = [Some(ONE), Some(OTHER), None, Some(ONE), None].map(|config| {
        let registry = agents.consul();
        async move {
            for _ in 0..20 {
                registry.put_service_config(&project(), config).await.unwrap();
            }
        }
    });
    futures_util::future::join_all(writers).await;
    agents.consul().put_service_config(&project(), Some(OTHER)).await.unwrap();
    watcher.until(SOON, "the last one", says(Some(OTHER))).await;
}
