//! TLS beyond certificates: names that are addresses, who is trusted instead, servers without ALPN, and what is said of
//! peers that are no TLS servers.

#![allow(clippy::unwrap_used)]

#[path = "../../common/mod.rs"]
mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use callboard::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use callboard::rustls::pki_types::pem::PemObject;
use callboard::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use callboard::rustls::{self, DigitallySignedStruct, KeyLog, RootCertStore, ServerConfig, SignatureScheme, crypto};
use callboard::{Address, Channel, ChannelBuilder, ErrorKind, Tls};
use callboard_echo::EchoServer;
use callboard_echo::pb::EchoResponse;
use callboard_tls_tests::{Authority, NAME, Pair};
use common::silent::Odd;
use common::{PATIENCE, Stage, echo, quick, request, until};
use tonic::transport::{Identity, ServerTlsConfig};

fn authority() -> Authority {
    Authority::new("ours").unwrap()
}

/// A server with this certificate that speaks HTTP/2, and agrees on these protocols.
async fn server(pair: &Pair, protocols: &[&str], at: SocketAddr) -> SocketAddr {
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let provider = Arc::new(crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind(at).await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = futures_util::stream::unfold((listener, acceptor), async |(listener, acceptor)| {
        loop {
            let (socket, _) = listener.accept().await.ok()?;
            // Some clients hang up.
            if let Ok(stream) = acceptor.accept(socket).await {
                return Some((Ok::<_, std::io::Error>(stream), (listener, acceptor)));
            }
        }
    });
    let answer = |_| Ok(tonic::Response::new(EchoResponse::default()));
    let service = callboard_echo::pb::echo_server::EchoServer::new(common::scripted::Script(answer));
    tokio::spawn(tonic::transport::Server::builder().serve_with_incoming(service, Box::pin(connections)));
    address
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// One call to this address.
async fn called(address: Address, set: impl FnOnce(ChannelBuilder) -> ChannelBuilder) {
    let stage = Stage::new();
    let _a = stage.sign_in("a", address, 1).await;
    let channel = set(stage.builder()).build().unwrap();
    channel.wait_ready(PATIENCE).await.unwrap();
    echo(&channel).unary(request()).await.unwrap();
}

/// Why this address cannot be connected.
async fn reason(address: Address, set: impl FnOnce(ChannelBuilder) -> ChannelBuilder) -> String {
    let stage = Stage::new();
    let _a = stage.sign_in("a", address, 1).await;
    let channel: Channel = set(stage.builder().backoff(quick())).build().unwrap();
    let failed = || channel.endpoints().first().and_then(|status| status.connection_error.clone());
    until("the attempt has failed", || failed().is_some()).await;
    failed().unwrap().chain()
}

#[tokio::test]
async fn an_ipv6_address_is_a_name_with_and_without_brackets() {
    let ours = authority();
    let pair = ours.issue(|params| {
        params.subject_alt_names = vec![rcgen::SanType::IpAddress(IpAddr::from(Ipv6Addr::LOCALHOST))];
    });
    let address = Address::try_from(server(&pair.unwrap(), &["h2"], (Ipv6Addr::LOCALHOST, 0).into()).await).unwrap();
    let tls = Tls::with_ca(&ours.pem).unwrap();
    called(address.clone(), |builder| builder.tls(tls.clone()).authority("[::1]:443")).await;
    for name in ["::1", "[::1]", "[::1%lo]"] {
        called(address.clone(), |builder| builder.tls(tls.clone().server_name(name))).await;
    }
    let other = reason(address, |builder| builder.tls(tls).authority("[::2]:443")).await;
    assert!(other.contains("is not for \"::2\""), "{other}");
}

#[tokio::test]
async fn a_server_without_alpn_is_called_if_that_is_wished_and_one_of_another_protocol_is_not() {
    let ours = authority();
    let pair = ours.issue(|_| {}).unwrap();
    let tls = Tls::with_ca(&ours.pem).unwrap().server_name(NAME);
    let address = Address::try_from(server(&pair, &[], loopback()).await).unwrap();
    let refused = reason(address.clone(), |builder| builder.tls(tls.clone())).await;
    assert!(refused.contains("ALPN") && refused.contains("Tls::assume_http2"), "{refused}");
    called(address, |builder| builder.tls(tls.clone().assume_http2(true))).await;
    let other = Address::try_from(server(&pair, &["http/1.1"], loopback()).await).unwrap();
    let refused = reason(other, |builder| builder.tls(tls.assume_http2(true))).await;
    assert!(refused.contains("does not offer HTTP/2"), "{refused}");
}

/// Trusts whoever shows this certificate, and notes for which name it was asked.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    names: Mutex<Vec<String>>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.names.lock().unwrap().push(name.to_str().into_owned());
        if *shown == self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General("not the pinned one".to_owned()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = crypto::ring::default_provider().signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = crypto::ring::default_provider().signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test]
async fn a_verifier_of_the_user_s_decides_alone() {
    let ours = authority();
    let (pair, other) = (ours.issue(|_| {}).unwrap(), ours.issue(|_| {}).unwrap());
    let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
    let pinned = Arc::new(Pinned { certificate, names: Mutex::default() });
    let tls = Tls::with_verifier(pinned.clone()).server_name("any.example");
    called(server(&pair, &["h2"], loopback()).await.try_into().unwrap(), |builder| builder.tls(tls.clone())).await;
    let refused =
        reason(server(&other, &["h2"], loopback()).await.try_into().unwrap(), |builder| builder.tls(tls.clone())).await;
    assert!(refused.starts_with("TLS: ") && refused.contains("not the pinned one"), "{refused}");
    assert!(pinned.names.lock().unwrap().iter().all(|name| name == "any.example"));
    assert!(format!("{tls:?}").contains("verifier"));
}

#[tokio::test]
async fn trust_anchors_are_trusted_and_none_at_all_are_refused() {
    let (ours, others) = (authority(), authority());
    let anchors = |authority: &Authority| {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap()).unwrap();
        roots.roots
    };
    let address = Address::try_from(server(&ours.issue(|_| {}).unwrap(), &["h2"], loopback()).await).unwrap();
    let tls = |authority| Tls::with_trust_anchors(anchors(authority)).unwrap().server_name(NAME);
    called(address.clone(), |builder| builder.tls(tls(&ours))).await;
    let refused = reason(address, |builder| builder.tls(tls(&others))).await;
    assert!(refused.contains("TLS: "), "{refused}");
    assert_eq!(Tls::with_trust_anchors([]).unwrap_err().kind(), ErrorKind::Invalid);
}

#[derive(Debug, Default)]
struct Labels(Mutex<Vec<String>>);

impl KeyLog for Labels {
    fn log(&self, label: &str, _: &[u8], _: &[u8]) {
        self.0.lock().unwrap().push(label.to_owned());
    }
}

#[tokio::test]
async fn the_secrets_go_to_the_key_log() {
    let (ours, log) = (authority(), Arc::new(Labels::default()));
    let address = Address::try_from(server(&ours.issue(|_| {}).unwrap(), &["h2"], loopback()).await).unwrap();
    let tls = Tls::with_ca(&ours.pem).unwrap().server_name(NAME).key_log(log.clone());
    called(address, |builder| builder.tls(tls)).await;
    assert!(log.0.lock().unwrap().iter().any(|label| label == "CLIENT_TRAFFIC_SECRET_0"), "{log:?}");
}

#[test]
fn the_bad_certificate_of_a_bundle_is_named() {
    let good: Vec<_> = ["a", "b", "c"].iter().map(|name| Authority::new(name).unwrap().pem).collect();
    let line = good[0].lines().count() + 2;
    // A comment before each, as in bundles that systems have.
    let bundle = |second: &str| format!("# a\n{}# b\n{second}# c\n{}", good[0], good[2]);
    assert!(Tls::with_ca(bundle(&good[1])).is_ok());
    let (head, tail) = good[1].split_at(60);
    for bad in
        [format!("{head}!!{tail}"), "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n".to_owned()]
    {
        let error = Tls::with_ca(bundle(&bad)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let said = format!("TLS: the CA: certificate 2 of 3, which begins in line {}, cannot be used", line + 1);
        assert_eq!(error.message(), said, "{}", error.chain());
        let alone = Tls::with_ca(&bad).unwrap_err();
        assert_eq!(alone.message(), "TLS: the CA cannot be used");
    }
}

#[tokio::test]
async fn peers_that_do_not_speak_tls_are_recognised() {
    let ours = authority();
    let tls = || Tls::with_ca(&ours.pem).unwrap().server_name(NAME);
    let clear = EchoServer::start("a").await.unwrap();
    let silent = Odd::silent().await;
    let mut odd = Vec::new();
    for (word, says) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "TLS: the server answers in HTTP/1 (\"HTTP/1.1 400 Bad Request\")"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "TLS: the server speaks SSH (\"SSH-2.0-OpenSSH_9.2\")"),
        (common::silent::SETTINGS, "TLS: the server speaks HTTP/2 in the clear: did you mean http"),
        (b"", "TLS: the server closed the connection and sent nothing: does it expect no TLS?"),
    ] {
        odd.push((Odd::hanging_up(word).await, says));
    }
    let mut cases: Vec<(Address, &str)> = odd.iter().map(|(server, says)| (server.address.clone(), *says)).collect();
    cases.push((silent.address.clone(), "TLS: the handshake was not finished within 300ms"));
    cases.push((clear.address().try_into().unwrap(), "TLS: the server speaks HTTP/2 in the clear: did you mean http"));
    for (address, says) in cases {
        let set = |builder: ChannelBuilder| builder.tls(tls()).connect_timeout(Duration::from_millis(300));
        let said = reason(address, set).await;
        assert!(said.starts_with(says), "{says:?} does not begin {said:?}");
    }
}

#[tokio::test]
async fn a_channel_in_the_clear_recognises_tls() {
    let ours = authority();
    let pair = ours.issue(|_| {}).unwrap();
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(&pair.certificate, &pair.key));
    let configure = |server: tonic::transport::Server| server.tls_config(tls).unwrap();
    let server = EchoServer::start_with("a", loopback(), configure).await.unwrap();
    let said = reason(server.address().try_into().unwrap(), |builder| builder).await;
    assert!(said.starts_with("HTTP/2: the answer looks like TLS: did you mean https (ChannelBuilder::tls)?"), "{said}");
}
