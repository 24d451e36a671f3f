//! TLS, on a real server that asks for a certificate of the client's.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not their helpers")]

mod common;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use callboard_core::{ErrorKind, RegistrationSettings, Registry, RegistryTls, Resolver, Target, register};
use callboard_raw::{Mode, Port, Proxy};
use callboard_servers::Cluster;
use callboard_tls_tests::{Authority, Pair};
use callboard_zookeeper::ZooKeeper;
use common::{GapWatch, SESSION, SOON, Zoo, instance, service, until};
use futures_util::StreamExt;

/// A server on Netty, as its own transport knows no TLS. The port for plain text stays open, for the harness.
async fn start(directory: &Path, authority: &Authority) -> (Cluster, SocketAddr) {
    renew_server(directory, authority);
    let port = Port::free().unwrap();
    let cluster = Cluster::zookeeper()
        .config("serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory")
        .config(format!("secureClientPort={}", port.number()))
        .config("secureClientPortAddress=127.0.0.1")
        .config("ssl.keyStore.type=PEM")
        .config(format!("ssl.keyStore.location={}", directory.join("server.pem").display()))
        .config("ssl.trustStore.type=PEM")
        .config(format!("ssl.trustStore.location={}", directory.join("ca.pem").display()))
        .config("ssl.clientAuth=need")
        .config("client.certReload=true")
        .start()
        .await;
    (cluster, port.address())
}

/// Writes a file as a tool that renews certificates should, so that no reader finds half of it.
fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    fs::write(directory.join("new"), text).unwrap();
    fs::rename(directory.join("new"), &path).unwrap();
    path.display().to_string()
}

/// The certificate of the server, and the CA that it trusts.
fn renew_server(directory: &Path, authority: &Authority) {
    let server = issue(authority);
    write(directory, "server.pem", &format!("{}{}", server.key, server.certificate));
    write(directory, "ca.pem", &authority.pem);
}

/// The certificate of a client, and the CA that it trusts: the part of a URL that names the files.
fn renew_client(directory: &Path, authority: &Authority) -> String {
    let own = issue(authority);
    let ca = write(directory, "client-ca.pem", &authority.pem);
    let cert = write(directory, "client.pem", &own.certificate);
    let key = write(directory, "client.key", &own.key);
    format!("registry_tls&registry_ca={ca}&registry_cert={cert}&registry_key={key}")
}

fn by_url(address: SocketAddr, options: &str) -> ZooKeeper {
    let target: Target = format!("zookeeper://{address}/{}?{options}", service()).parse().unwrap();
    let mut options = target.options();
    let zookeeper = ZooKeeper::from_target(&target, &mut options).unwrap();
    options.finish().unwrap();
    zookeeper
}

fn issue(authority: &Authority) -> Pair {
    let address = rcgen::SanType::IpAddress(Ipv4Addr::LOCALHOST.into());
    authority.issue(|params| params.subject_alt_names.push(address)).unwrap()
}

#[tokio::test]
#[ignore = "needs ZooKeeper: make test"]
async fn servers_and_clients_meet_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let (authority, other) = (Authority::new("ours").unwrap(), Authority::new("another").unwrap());
    let (_cluster, address) = start(directory.path(), &authority).await;
    let client = issue(&authority);
    let builder = || ZooKeeper::builder([address.to_string()]).session(SESSION);
    let trusting = |authority: &Authority| RegistryTls::with_ca(authority.pem.clone()).unwrap();
    let shown = |authority: &Authority, pair: &Pair| {
        trusting(authority).identity(pair.certificate.clone(), pair.key.clone()).unwrap()
    };

    let zookeeper = builder().tls(shown(&authority, &client)).build().unwrap();
    // The server opens its port for TLS after the one that it is known to answer on.
    let registration = register(Arc::new(zookeeper), &service(), instance("a"), RegistrationSettings::default());
    registration.wait_registered(SOON).await.unwrap();

    // The same by a URL that names files.
    let by_url = by_url(address, &format!("session=6s&{}", renew_client(directory.path(), &authority)));
    GapWatch::over(Arc::new(by_url), &service()).until("over TLS", &["a=1"]).await;
    registration.deregister().await.unwrap();

    // A server that we do not trust, a client that the server does not trust, and one that talks plain text.
    let stranger = issue(&other);
    for refused in [
        builder().tls(shown(&other, &client)),
        builder().tls(shown(&authority, &stranger)),
        builder().tls(trusting(&authority)),
        builder(),
    ] {
        let error = refused.build().unwrap().register(&service(), &instance("b")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(error.to_string().contains(&format!("cannot connect to {address}")), "{error}");
    }
}

/// Every certificate is renewed on disk, by another authority, and the server is started again: nobody has to start the
/// clients again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn certificates_that_are_renewed_on_disk_are_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours").unwrap();
    let (cluster, address) = start(directory.path(), &authority).await;
    let zookeeper = by_url(address, &format!("session=6s&{}", renew_client(directory.path(), &authority)));
    let registration =
        register(Arc::new(zookeeper.clone()), &service(), instance("a"), RegistrationSettings::default());
    registration.wait_registered(SOON).await.unwrap();

    let authority = Authority::new("the next").unwrap();
    cluster.kill().await;
    renew_server(directory.path(), &authority);
    renew_client(directory.path(), &authority);
    cluster.start().await;
    registration.update(|instance| instance.set_weight(2));
    GapWatch::over(Arc::new(zookeeper), &service()).until("with the new ones", &["a=2"]).await;
    registration.deregister().await.unwrap();
}

/// So does a session that goes on: the connection is lost for a moment, and the next one shows what the files say now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs ZooKeeper: make test"]
async fn a_session_outlives_the_renewal_of_its_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours").unwrap();
    let (cluster, address) = start(directory.path(), &authority).await;
    let proxy = Proxy::to(address).await;
    let options = format!("session=60s&{}", renew_client(directory.path(), &authority));
    let zookeeper = by_url(proxy.address(), &options);
    let registration = register(Arc::new(zookeeper), &service(), instance("a"), RegistrationSettings::default());
    registration.wait_registered(SOON).await.unwrap();
    let zoo = Zoo::of(cluster);
    let node = zoo.node_of(&service(), "a").await;

    let authority = Authority::new("the next").unwrap();
    renew_server(directory.path(), &authority);
    renew_client(directory.path(), &authority);
    let renewed = async || by_url(address, &options).watch(&service()).next().await.unwrap().ok();
    until("the server has noticed, and takes the new ones", renewed).await;
    proxy.set(Mode::Refuse).await;
    proxy.set(Mode::Pass).await;
    registration.update(|instance| instance.set_weight(2));
    GapWatch::over(Arc::new(zoo.zookeeper()), &service()).until("changed", &["a=2"]).await;
    assert_eq!(zoo.node_of(&service(), "a").await, node, "by the same session");
    registration.deregister().await.unwrap();
}
