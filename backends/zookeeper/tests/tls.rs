//! TLS, on a real server that asks for a certificate of the client's.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not their helpers")]

mod common;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use callboard_core::{AnnounceSettings, ErrorKind, Registry, RegistryTls, Target, announce};
use callboard_raw::Port;
use callboard_servers::Cluster;
use callboard_tls_tests::{Authority, Pair};
use callboard_zookeeper::ZooKeeper;
use common::{SESSION, SOON, Vigil, instance, service};

/// A server on Netty, as its own transport knows no TLS. The port for plain text stays open, for the harness.
async fn start(directory: &Path, authority: &Authority) -> (Cluster, SocketAddr) {
    let server = issue(authority);
    fs::write(directory.join("server.pem"), format!("{}{}", server.key, server.certificate)).unwrap();
    fs::write(directory.join("ca.pem"), &authority.pem).unwrap();
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
        .start()
        .await;
    (cluster, port.address())
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
    let announcement = announce(Arc::new(zookeeper), &service(), instance("a"), AnnounceSettings::default());
    announcement.on_board(SOON).await.unwrap();

    // The same by a URL that names files.
    let at = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert, key) = (at("client.pem", &client.certificate), at("client.key", &client.key));
    let ca = at("ca.pem", &authority.pem);
    let url = format!("zookeeper://{address}/{}?session=6s&tls&ca={ca}&cert={cert}&key={key}", service());
    let target: Target = url.parse().unwrap();
    let mut options = target.options();
    let by_url = ZooKeeper::from_target(&target, &mut options).unwrap();
    options.finish().unwrap();
    Vigil::over(Arc::new(by_url), &service()).until("over TLS", &["a=1"]).await;
    announcement.leave().await.unwrap();

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
