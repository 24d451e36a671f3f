//! What a server can be asked to be, and what is said if it cannot.

use std::net::SocketAddr;
use std::process::Command;

use callboard_servers::{Cluster, Mode, Proxy, ask};
use tokio::net::TcpListener;

use crate::ANSWERS;
use crate::stores::Store;
use crate::stores::consul::Consul;
use crate::stores::etcd::Etcd;

const TOKEN: &str = "3f1c9d52-6a57-4f0e-9d3b-0c2f6f3f8a11";

async fn services(address: SocketAddr, headers: &[&str]) -> ask::Answer {
    ask::http(address, "GET", "/v1/agent/services", headers, "").await.expect(ANSWERS)
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn consul_answers_nobody_without_a_token_if_it_is_told_so() {
    let acl = format!(
        "acl {{ enabled = true default_policy = \"deny\" tokens {{ initial_management = \"{TOKEN}\" agent = \"{TOKEN}\" }} }}"
    );
    let cluster = Cluster::consul().config(acl).token(TOKEN).start().await;
    assert_eq!(services(cluster.address(), &[]).await.body.trim(), "{}");
    let answer = services(cluster.address(), &["X-Consul-Token: wrong"]).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    let answer =
        ask::http(cluster.address(), "PUT", "/v1/kv/key", &[&format!("X-Consul-Token: {TOKEN}")], "value").await;
    assert_eq!(answer.expect(ANSWERS).status, 200);
    cluster.restart().await;
    assert!(Consul.has(cluster.address()).await.is_err());
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn consul_in_its_development_mode_forgets() {
    let cluster = Cluster::consul_dev().start().await;
    Consul.put(cluster.address()).await.expect("it stores");
    cluster.restart().await;
    assert!(!Consul.has(cluster.address()).await.expect(ANSWERS));
}

#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn zookeeper_is_configured_by_lines_and_java_by_arguments() {
    let setup =
        Cluster::zookeeper().config("maxSessionTimeout=12345").arg("-Dzookeeper.4lw.commands.whitelist=srvr,conf");
    let cluster = setup.start().await;
    let conf = ask::four_letters(cluster.address(), "conf").await.expect(ANSWERS);
    assert!(conf.contains("maxSessionTimeout=12345"), "{conf}");
    assert!(conf.contains("minSessionTimeout=2000"), "{conf}");
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn etcd_talks_tls_with_its_clients_if_it_is_given_a_certificate() {
    let directory = tempfile::tempdir().expect("a directory");
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).expect("a file");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    let setup =
        Cluster::etcd().arg(format!("--cert-file={}", cert.display())).arg(format!("--key-file={}", key.display()));
    let cluster = setup.start().await;
    // What it says to somebody who talks plainly.
    let error = Etcd.has(cluster.address()).await.expect_err("it answers in TLS alone");
    assert!(error.to_string().contains("HTTP"), "{error}");
    cluster.restart().await;
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn etcd_is_configured_by_arguments_and_lines() {
    let setups = [Cluster::etcd().arg("--max-request-bytes=100"), Cluster::etcd().config("max-request-bytes=100")];
    for setup in setups {
        let cluster = setup.start().await;
        Etcd.put(cluster.address()).await.expect("it is small enough");
        let large = format!(r#"{{"key":"a2V5","value":"{}"}}"#, "a".repeat(400));
        let answer = ask::http(cluster.address(), "POST", "/v3/kv/put", &[], &large).await.expect(ANSWERS);
        assert!(answer.body.contains("too large"), "{answer:?}");
    }
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn a_client_behind_a_proxy_is_cut_off_alone() {
    let cluster = Etcd.filled().await;
    let proxy = Proxy::to(cluster.address()).await;
    assert!(Etcd.has(proxy.address()).await.expect("it passes"));
    proxy.set(Mode::Refuse).await;
    Etcd.has(proxy.address()).await.expect_err("nobody listens");
    assert!(Etcd.has(cluster.address()).await.expect(ANSWERS));
    proxy.set(Mode::Pass).await;
    assert!(Etcd.has(proxy.address()).await.expect("it passes"));
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
#[should_panic(expected = "address already in use")]
async fn a_server_that_cannot_start_says_why() {
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    Cluster::etcd().arg(format!("--listen-metrics-urls=http://{address}")).start().await;
}

#[test]
fn a_server_that_is_not_installed_is_named_with_what_to_do() {
    let nowhere = tempfile::tempdir().expect("a directory");
    for (server, complaint) in [("etcd", "etcd"), ("zookeeper", "ZooKeeper"), ("consul", "consul")] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_callboard-servers"));
        let output = program.arg(server).env("CALLBOARD_SERVERS", nowhere.path()).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success());
        let expected = format!("{complaint} is not in {}: run 'make servers'", nowhere.path().display());
        assert!(said.contains(&expected), "{said}");
    }
}
