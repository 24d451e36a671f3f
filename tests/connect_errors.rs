//! What an attempt to connect says when it fails: in which phase, and who answered instead.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::time::Duration;

use callboard::{ChannelBuilder, Error, ErrorKind};
use common::silent::{Deaf, Odd, Refusing};
use common::{Stage, echo, in_time, quick, request, until};
use tokio::net::{TcpListener, TcpStream};
use tonic::Code;

const SHORT: Duration = Duration::from_millis(200);

/// Why the server at this address cannot be connected, as the channel shows it and as a call is told.
async fn error(address: callboard::Address, set: impl Fn(ChannelBuilder) -> ChannelBuilder) -> Error {
    let stage = Stage::new();
    let _a = stage.sign_in("a", address.clone(), 1).await;
    let channel = set(stage.builder().backoff(quick())).build().unwrap();
    let shown = || channel.endpoints().first().and_then(|status| status.connection_error.clone());
    until("the attempt has failed", || shown().is_some()).await;
    let error = shown().unwrap();
    let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    for part in ["project/test", &address.to_string(), error.message()] {
        assert!(status.message().contains(part), "{part:?} is not in {status:?}");
    }
    error
}

fn hasty(builder: ChannelBuilder) -> ChannelBuilder {
    builder.connect_timeout(SHORT)
}

#[tokio::test]
async fn an_attempt_whose_time_is_over_says_what_it_was_waiting_for() {
    let (deaf, silent) = (Deaf::new(), Odd::silent().await);
    let never = |builder: ChannelBuilder| {
        hasty(builder).connector(tower::service_fn(|_| std::future::pending::<std::io::Result<TcpStream>>()))
    };
    let cases = [
        (error(deaf.address.clone(), hasty).await, "TCP: no connection within 200ms"),
        (error(silent.address.clone(), hasty).await, "HTTP/2: no SETTINGS that permit a request within 200ms"),
        (error(silent.address.clone(), never).await, "connector: the connector gave no byte stream within 200ms"),
    ];
    for (error, says) in cases {
        assert_eq!((error.kind(), error.message()), (ErrorKind::Timeout, says));
    }
}

#[tokio::test]
async fn an_attempt_that_fails_names_the_phase_and_the_address() {
    let refusing = Refusing::new();
    let said = error(refusing.address.clone(), |builder| builder).await.chain();
    assert!(said.starts_with(&format!("TCP: cannot connect to {}: ", refusing.address)), "{said}");
    // RFC 6761 promises that no name ends so.
    let said = error("nobody.invalid:1".parse().unwrap(), |builder| builder).await.chain();
    assert!(said.starts_with("DNS: cannot resolve the name: "), "{said}");
    let said = error("unix:/nowhere/a.sock".parse().unwrap(), |builder| builder).await.chain();
    assert!(said.starts_with("Unix socket: cannot connect: No such file"), "{said}");
}

#[tokio::test]
async fn a_peer_that_speaks_something_else_is_recognised() {
    // What servers of TLS, HTTP/1 and SSH say to the first bytes of HTTP/2.
    const ALERT: &[u8] = &[0x15, 3, 3, 0, 2, 2, 70];
    const GO_HTTPS: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    for (word, says) in [
        (ALERT, "HTTP/2: the answer looks like TLS: did you mean https (ChannelBuilder::tls)?"),
        (GO_HTTPS, "speaks of HTTPS: did you mean https (ChannelBuilder::tls)?"),
        (
            b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n",
            "HTTP/2: the server answers in HTTP/1 (\"HTTP/1.1 400 Bad Request\")",
        ),
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "HTTP/2: the server speaks SSH (\"SSH-2.0-OpenSSH_9.2p1 Debian-2\")"),
        (b"220 mail.example ESMTP\r\n", "HTTP/2: the server says \"220 mail.example ESMTP\", which is no HTTP/2"),
        (b"+OK", "HTTP/2: the server says \"+OK\", which is no HTTP/2"),
        (&[0xFF; 30], "HTTP/2: the server sends what is no HTTP/2 (it begins with ff ff ff"),
        (b"", "HTTP/2: the server closed the connection and sent nothing: does it expect TLS (ChannelBuilder::tls)?"),
    ] {
        let server = Odd::hanging_up(word).await;
        let error = error(server.address.clone(), |builder| builder).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.message().contains(says), "{says:?} is not in {:?}", error.chain());
        assert!(error.chain().len() > error.message().len(), "what happened is the source: {}", error.chain());
    }
}

#[tokio::test]
async fn a_peer_that_says_a_word_and_waits_is_recognised_when_the_time_is_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            socket.writable().await.unwrap();
            // Less than HTTP/2 has to see to know that it is none.
            socket.try_write(b"$ ").unwrap();
            open.push(socket);
        }
    });
    let error = error(address.try_into().unwrap(), hasty).await;
    assert_eq!(error.kind(), ErrorKind::Timeout, "{}", error.chain());
    for part in ["the server says \"$ \"", "no SETTINGS that permit a request within 200ms"] {
        assert!(error.chain().contains(part), "{part:?} is not in {:?}", error.chain());
    }
    server.abort();
}
