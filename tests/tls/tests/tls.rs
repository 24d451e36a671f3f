//! TLS against a tonic server: what is accepted, and what is refused with which reason.

#![allow(clippy::unwrap_used)]

#[path = "../../common/mod.rs"]
mod common;

use std::net::Ipv4Addr;
use std::time::Duration;

use callboard::lookaside::FallbackReason;
use callboard::lookaside::v1::Server;
use callboard::{CallCredentials, Channel, ErrorKind, Registration, RequestInfo, Tls};
use callboard_echo::EchoServer;
use callboard_tls_tests::{Authority, NAME, Pair, date_time_ymd};
use common::lookaside::{Balancer, until_fallback};
use common::{PATIENCE, Stage, echo, request, until};
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

fn authority(name: &str) -> Authority {
    Authority::new(name).unwrap()
}

/// A server that shows this certificate, and asks clients for one of `clients`, if given.
async fn secured(stage: &Stage, pair: &Pair, clients: Option<&Authority>) -> (EchoServer, Registration) {
    let mut tls = ServerTlsConfig::new().identity(Identity::from_pem(&pair.certificate, &pair.key));
    if let Some(authority) = clients {
        tls = tls.client_ca_root(Certificate::from_pem(&authority.pem));
    }
    let configure = |server: tonic::transport::Server| server.tls_config(tls).unwrap();
    let server = EchoServer::start_with("a", (Ipv4Addr::LOCALHOST, 0).into(), configure).await.unwrap();
    let registration = stage.sign_in("a", server.address().try_into().unwrap(), 1).await;
    (server, registration)
}

fn trusting(authority: &Authority) -> Tls {
    Tls::with_ca(&authority.pem).unwrap().server_name(NAME)
}

/// Why the channel's one endpoint cannot be connected.
async fn reason(stage: &Stage, tls: Tls) -> String {
    let channel = stage.builder().tls(tls).build().unwrap();
    until("the attempt has failed", || channel.endpoints().iter().any(|status| status.connection_error.is_some()))
        .await;
    let error = channel.endpoints()[0].connection_error.clone().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let status = echo(&channel).unary(request()).await.expect_err("nothing is ready");
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(status.message().contains(error.message()), "{status}");
    error.chain()
}

#[tokio::test]
async fn a_server_of_a_trusted_authority_is_called() {
    let (stage, authority) = (Stage::new(), authority("ours"));
    let _server = secured(&stage, &authority.issue(|_| {}).unwrap(), None).await;
    let channel = stage.builder().tls(trusting(&authority)).build().unwrap();
    channel.wait_ready(PATIENCE).await.unwrap();
    assert_eq!(echo(&channel).unary(request()).await.unwrap().get_ref().server, "a");
}

#[tokio::test]
async fn the_name_is_the_authority_s_if_none_is_given() {
    let (stage, authority) = (Stage::new(), authority("ours"));
    let _server = secured(&stage, &authority.issue(|_| {}).unwrap(), None).await;
    let tls = Tls::with_ca(&authority.pem).unwrap();
    let channel = stage.builder().tls(tls).authority(format!("{NAME}:443")).build().unwrap();
    channel.wait_ready(PATIENCE).await.unwrap();
    echo(&channel).unary(request()).await.unwrap();
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_is_shown_one() {
    let (stage, authority, clients) = (Stage::new(), authority("ours"), authority("clients"));
    let _server = secured(&stage, &authority.issue(|_| {}).unwrap(), Some(&clients)).await;
    let own = clients.issue(|_| {}).unwrap();
    let tls = trusting(&authority).identity(&own.certificate, &own.key).unwrap();
    let channel = stage.builder().tls(tls).build().unwrap();
    channel.wait_ready(PATIENCE).await.unwrap();
    echo(&channel).unary(request()).await.unwrap();

    let none = reason(&stage, trusting(&authority)).await;
    assert!(none.contains("CertificateRequired"), "{none}");
    let foreign = authority.issue(|_| {}).unwrap();
    let tls = trusting(&authority).identity(&foreign.certificate, &foreign.key).unwrap();
    let untrusted = reason(&stage, tls).await;
    assert!(untrusted.contains("alert"), "{untrusted}");
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_said() {
    let (ours, others) = (authority("ours"), authority("others"));
    let good = ours.issue(|_| {}).unwrap();
    let expired = ours.issue(|params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    let expired = expired.unwrap();
    let future = ours.issue(|params| params.not_before = date_time_ymd(3001, 1, 1)).unwrap();
    for (pair, tls, why) in [
        (&good, trusting(&ours).server_name("other.internal"), "is not for \"other.internal\""),
        (&good, trusting(&others), "not trusted here"),
        (&expired, trusting(&ours), "has expired"),
        (&future, trusting(&ours), "not valid yet"),
    ] {
        let stage = Stage::new();
        let _server = secured(&stage, pair, None).await;
        let reason = reason(&stage, tls).await;
        assert!(reason.contains(why), "{reason}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused() {
    let (stage, authority) = (Stage::new(), authority("ours"));
    let _server = stage.server("a").await;
    let reason = reason(&stage, trusting(&authority)).await;
    assert!(reason.contains("TLS"), "{reason}");
}

#[tokio::test]
async fn a_server_that_does_not_agree_to_http2_is_refused() {
    let (stage, authority) = (Stage::new(), authority("ours"));
    for (protocols, why) in [(vec![], "did not agree to HTTP/2"), (vec![b"http/1.1".to_vec()], "ALPN")] {
        let pair = authority.issue(|_| {}).unwrap();
        let address = bare(&pair, protocols).await;
        let _registration = stage.sign_in("a", address.try_into().unwrap(), 1).await;
        let reason = reason(&stage, trusting(&authority)).await;
        assert!(reason.contains(why), "{reason}");
    }
}

/// A TLS server that knows these application protocols, and no HTTP at all.
async fn bare(pair: &Pair, protocols: Vec<Vec<u8>>) -> std::net::SocketAddr {
    use tokio_rustls::rustls::pki_types::pem::PemObject;
    use tokio_rustls::rustls::{self, ServerConfig, pki_types};

    let chain = vec![pki_types::CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
    let key = pki_types::PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = protocols;
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            // The client hangs up; there is nothing to serve.
            let _ = acceptor.accept(socket).await;
        }
    });
    address
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_when_it_is_given() {
    let (ours, pair) = (authority("ours"), authority("x").issue(|_| {}).unwrap());
    let kind = |result: callboard::Result<Tls>| result.expect_err("refused");
    assert!(kind(Tls::with_ca("nonsense")).to_string().contains("CA"));
    assert!(kind(trusting(&ours).identity("nonsense", &pair.key)).to_string().contains("client certificate"));
    let secret = kind(trusting(&ours).identity(&pair.certificate, "my secret"));
    assert!(secret.to_string().contains("private key") && !secret.chain().contains("my secret"), "{secret}");
    // A certificate and the key of another one.
    let mixed = trusting(&ours).identity(&pair.certificate, &authority("y").issue(|_| {}).unwrap().key).unwrap();
    let builder = |tls| Channel::builder("s".parse().unwrap()).resolver(Stage::new().board).tls(tls);
    assert_eq!(builder(mixed).build().expect_err("keys differ").kind(), ErrorKind::Invalid);
    let named = builder(trusting(&ours).server_name("not a name")).build().expect_err("a bad name");
    assert!(named.to_string().contains("\"not a name\""), "{named}");
    assert!(!format!("{:?}", trusting(&ours).identity(&pair.certificate, &pair.key)).contains("PRIVATE"));
}

#[test]
fn the_system_s_roots_are_used_or_their_absence_is_told() {
    match Tls::with_system_roots() {
        Ok(tls) => assert!(format!("{tls:?}").contains("roots")),
        Err(error) => assert!(error.to_string().contains("system"), "{error}"),
    }
}

/// An external balancer that shows this certificate, and sends calls to these servers.
async fn secured_balancer(pair: &Pair, servers: &[&EchoServer]) -> Balancer {
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(&pair.certificate, &pair.key));
    let server = tonic::transport::Server::builder().tls_config(tls).unwrap();
    let balancer = Balancer::start_with(Duration::ZERO, server).await;
    balancer.list(servers.iter().map(|server| Server::at(server.address(), "")));
    balancer
}

#[tokio::test]
async fn an_external_balancer_is_verified_as_a_server_is_and_so_are_the_servers_of_its_list() {
    let (stage, ours, others) = (Stage::new(), authority("ours"), authority("others"));
    let (good, foreign) = (ours.issue(|_| {}).unwrap(), others.issue(|_| {}).unwrap());
    // One server shows what is expected, and one does not; neither has signed in.
    let hidden = Stage::new();
    let (trusted, _in_trusted) = secured(&hidden, &good, None).await;
    let (untrusted, _in_untrusted) = secured(&hidden, &foreign, None).await;
    let balancer = secured_balancer(&good, &[&trusted, &untrusted]).await;
    let _balancer = stage.balancer("balancer", balancer.address()).await;
    let channel = stage.builder().tls(trusting(&ours)).build().unwrap();
    until("the list decides", || {
        let statuses = channel.endpoints();
        statuses.len() == 2 && statuses[1].connection_error.is_some()
    })
    .await;
    channel.wait_ready(PATIENCE).await.unwrap();
    for _ in 0..10 {
        echo(&channel).unary(request()).await.unwrap();
    }
    assert_eq!((trusted.calls(), untrusted.calls()), (10, 0));
    let refused = channel.endpoints()[1].connection_error.clone().unwrap().chain();
    assert!(refused.contains("not trusted here"), "{refused}");
}

#[tokio::test]
async fn an_external_balancer_that_is_not_trusted_is_not_listened_to() {
    let (ours, others) = (authority("ours"), authority("others"));
    let good = ours.issue(|_| {}).unwrap();
    let other_name = ours.issue(|params| params.subject_alt_names.clear()).unwrap();
    for pair in [&others.issue(|_| {}).unwrap(), &other_name] {
        let stage = Stage::new();
        let (server, _signed_in) = secured(&stage, &good, None).await;
        let elsewhere = EchoServer::start("elsewhere").await.unwrap();
        let balancer = secured_balancer(pair, &[&elsewhere]).await;
        let in_the_clear = Balancer::listing([Server::at(elsewhere.address(), "")]).await;
        let _balancer = stage.balancer("b0", balancer.address()).await;
        let _in_the_clear = stage.balancer("b1", in_the_clear.address()).await;
        let channel = stage.builder().tls(trusting(&ours)).build().unwrap();
        until_fallback(&channel, FallbackReason::Unreachable).await;
        channel.wait_ready(PATIENCE).await.unwrap();
        echo(&channel).unary(request()).await.unwrap();
        assert_eq!((server.calls(), elsewhere.accepted()), (1, 0));
        assert!(balancer.names().is_empty() && in_the_clear.names().is_empty());
    }
}

/// Credentials as most are: for TLS alone.
struct Token;

#[tonic::async_trait]
impl CallCredentials for Token {
    async fn metadata(&self, attempt: &RequestInfo<'_>) -> Result<MetadataMap, Status> {
        assert_eq!(attempt.service_url(), format!("https://{NAME}/callboard.echo.v1.Echo"));
        Err(Status::unauthenticated("no token for you"))
    }
}

#[tokio::test]
async fn credentials_that_require_tls_have_it() {
    let (stage, authority) = (Stage::new(), authority("ours"));
    let _server = secured(&stage, &authority.issue(|_| {}).unwrap(), None).await;
    let builder = stage.builder().authority(format!("{NAME}:443")).call_credentials(Token);
    let channel = builder.tls(trusting(&authority)).build().unwrap();
    channel.wait_ready(PATIENCE).await.unwrap();
    let status = echo(&channel).unary(request()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unauthenticated, "they were asked: {status}");
    let error = stage.builder().call_credentials(Token).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
}
