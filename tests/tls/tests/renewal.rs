//! Certificates that are renewed on disk while a channel lives.

#![allow(clippy::unwrap_used)]

#[path = "../../common/mod.rs"]
mod common;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use callboard::{Channel, ErrorKind, Tls};
use callboard_echo::EchoServer;
use callboard_tls_tests::{Authority, NAME, Pair, date_time_ymd};
use common::{PATIENCE, Stage, echo, quick, request, until, waiting};
use tempfile::TempDir;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

/// The files of a client: whom it trusts, its certificate, and its key.
struct Files(TempDir);

impl Files {
    fn new(authority: &Authority, own: &Pair) -> Self {
        let files = Self(TempDir::new().unwrap());
        files.renew(authority, own);
        files
    }

    fn renew(&self, authority: &Authority, own: &Pair) {
        for (name, text) in [("ca", &authority.pem), ("cert", &own.certificate), ("key", &own.key)] {
            fs::write(self.path("new"), text).unwrap();
            fs::rename(self.path("new"), self.path(name)).unwrap();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn tls(&self) -> callboard::Result<Tls> {
        let tls = Tls::with_ca_file(self.path("ca"))?.identity_files(self.path("cert"), self.path("key"))?;
        Ok(tls.server_name(NAME))
    }
}

/// A server that asks for a certificate of this authority, which has issued its own too.
async fn server(authority: &Authority, address: SocketAddr) -> EchoServer {
    let pair = authority.issue(|_| {}).unwrap();
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&pair.certificate, &pair.key))
        .client_ca_root(Certificate::from_pem(&authority.pem));
    EchoServer::start_with("a", address, |server| server.tls_config(tls).unwrap()).await.unwrap()
}

fn anywhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// A channel whose one server has been called.
async fn called(stage: &Stage, tls: Tls) -> Channel {
    let channel = stage.builder().tls(tls).backoff(quick()).build().unwrap();
    channel.wait_ready(PATIENCE).await.unwrap();
    echo(&channel).unary(request()).await.unwrap();
    channel
}

/// Restarts the server, and calls it by a new connection.
async fn restarted(server: EchoServer, authority: &Authority, channel: &Channel) -> EchoServer {
    let address = server.address();
    server.kill().await;
    let server = self::server(authority, address).await;
    let mut call = waiting(request());
    call.set_timeout(Duration::from_secs(5));
    echo(channel).unary(call).await.unwrap();
    assert_eq!((server.accepted(), server.calls()), (1, 1), "by a new connection");
    server
}

#[tokio::test]
async fn a_client_certificate_that_was_renewed_on_disk_is_the_one_that_is_shown() {
    let (stage, authority) = (Stage::new(), Authority::new("ours").unwrap());
    let expiry = SystemTime::now() + Duration::from_secs(3);
    let short = authority.issue(|params| {
        params.not_after = date_time_ymd(1970, 1, 1) + expiry.duration_since(UNIX_EPOCH).unwrap();
    });
    let files = Files::new(&authority, &short.unwrap());
    let server = server(&authority, anywhere()).await;
    let _signed_in = stage.sign_in("a", server.address().try_into().unwrap(), 1).await;
    let channel = called(&stage, files.tls().unwrap()).await;
    files.renew(&authority, &authority.issue(|_| {}).unwrap());
    // A second more: certificates count whole seconds.
    until("the first certificate has expired", || SystemTime::now() > expiry + Duration::from_secs(1)).await;
    restarted(server, &authority, &channel).await;
}

#[tokio::test]
async fn an_authority_that_was_replaced_on_disk_is_the_one_that_is_trusted() {
    let (stage, first, second) = (Stage::new(), Authority::new("first").unwrap(), Authority::new("second").unwrap());
    let files = Files::new(&first, &first.issue(|_| {}).unwrap());
    let server = server(&first, anywhere()).await;
    let _signed_in = stage.sign_in("a", server.address().try_into().unwrap(), 1).await;
    let channel = called(&stage, files.tls().unwrap()).await;
    files.renew(&second, &second.issue(|_| {}).unwrap());
    restarted(server, &second, &channel).await;
}

#[tokio::test]
async fn files_that_cannot_be_used_leave_those_that_were_read_before() {
    let (stage, authority) = (Stage::new(), Authority::new("ours").unwrap());
    let (first, second) = (authority.issue(|_| {}).unwrap(), authority.issue(|_| {}).unwrap());
    let files = Files::new(&authority, &first);
    let mut server = server(&authority, anywhere()).await;
    let _signed_in = stage.sign_in("a", server.address().try_into().unwrap(), 1).await;
    let channel = called(&stage, files.tls().unwrap()).await;
    // The certificate is renewed and the key not yet; half of the key is written; it is gone.
    fs::write(files.path("cert"), &second.certificate).unwrap();
    server = restarted(server, &authority, &channel).await;
    fs::write(files.path("key"), &second.key[..second.key.len() / 2]).unwrap();
    server = restarted(server, &authority, &channel).await;
    fs::remove_file(files.path("key")).unwrap();
    server = restarted(server, &authority, &channel).await;
    // What can be used is used again.
    let others = Authority::new("others").unwrap();
    files.renew(&others, &others.issue(|_| {}).unwrap());
    restarted(server, &others, &channel).await;
}

#[tokio::test]
async fn a_file_that_is_wrong_from_the_beginning_is_refused_and_named() {
    let authority = Authority::new("ours").unwrap();
    let files = Files::new(&authority, &authority.issue(|_| {}).unwrap());
    let build = || Channel::builder("s".parse().unwrap()).resolver(Stage::new().board).tls(files.tls()?).build();
    build().unwrap();
    let other = authority.issue(|_| {}).unwrap();
    let no_certificate = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
    for (name, text, why) in [
        ("key", other.key.as_str(), "cannot be used"),
        ("key", "my secret", "has no private key"),
        ("cert", no_certificate, "cannot be used"),
        ("cert", "", "has no certificate"),
        ("ca", no_certificate, "cannot be used"),
        ("ca", "my secret", "has no certificate"),
    ] {
        let before = fs::read(files.path(name)).unwrap();
        fs::write(files.path(name), text).unwrap();
        let error = build().expect_err(why);
        let (said, path) = (error.to_string(), format!("{:?}", files.path(name)));
        assert!(error.kind() == ErrorKind::Invalid && said.contains(why) && said.contains(&path), "{name}: {said}");
        assert!(!error.chain().contains("my secret"), "{}", error.chain());
        fs::write(files.path(name), before).unwrap();
    }
    fs::remove_file(files.path("ca")).unwrap();
    let error = build().expect_err("it is gone");
    assert!(error.to_string().contains("the CA cannot be read"), "{error}");
}
