//! The forms of an address, and where connections come from.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use callboard::Address;
use callboard_echo::EchoServer;
use common::{Stage, echo, endpoint, in_time, quick, request, until};

/// One call to the server at this address.
async fn called(stage: &Stage, address: Address) {
    let _a = stage.sign_in("a", address.clone(), 1).await;
    let channel = stage.channel(stage.builder(), 1).await;
    assert_eq!(endpoint(&channel, "a").endpoint.instance().address(), &address);
    in_time(echo(&channel).unary(request())).await.unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_on_an_abstract_unix_socket_is_called() {
    use std::os::linux::net::SocketAddrExt;

    let name = format!("callboard-{}-{:x}/1", std::process::id(), fastrand::u64(..));
    let bound = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let listener = std::os::unix::net::UnixListener::bind_addr(&bound).unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::UnixListener::from_std(listener).unwrap();
    let service = callboard_echo::pb::echo_server::EchoServer::new(common::scripted::Script(|_| {
        Ok(tonic::Response::new(callboard_echo::pb::EchoResponse::default()))
    }));
    let server = tokio::spawn(async move {
        let connections = tokio_stream::wrappers::UnixListenerStream::new(listener);
        tonic::transport::Server::builder().serve_with_incoming(service, connections).await
    });
    called(&Stage::new(), format!("unix-abstract:{name}").parse().unwrap()).await;
    server.abort();
}

/// The link-local addresses of this machine, with the numbers of their interfaces.
fn link_local() -> Vec<SocketAddrV6> {
    let Ok(interfaces) = std::fs::read_to_string("/proc/net/if_inet6") else { return Vec::new() };
    let address = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let ip = Ipv6Addr::from(u128::from_str_radix(words.next()?, 16).ok()?);
        let interface = u32::from_str_radix(words.next()?, 16).ok()?;
        ip.is_unicast_link_local().then(|| SocketAddrV6::new(ip, 0, 0, interface))
    };
    interfaces.lines().filter_map(address).collect()
}

#[tokio::test]
async fn an_address_with_a_zone_is_dialled_in_that_zone() {
    // Without its zone, a link-local address leads nowhere.
    let mut tried: Vec<SocketAddr> = link_local().into_iter().map(SocketAddr::from).collect();
    if tried.is_empty() {
        println!("this machine has no link-local address: only loopback's zone is tried");
        tried.push(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 0, 0, 1).into());
    }
    for at in tried {
        let Ok(server) = EchoServer::start_at("a", at).await else {
            println!("nobody can listen on {at}");
            continue;
        };
        let address = Address::try_from(server.address()).unwrap();
        assert!(address.to_string().contains('%'), "{address}");
        called(&Stage::new(), address.to_string().parse().unwrap()).await;
    }
}

#[tokio::test]
async fn connections_come_from_the_local_address_that_is_asked_for() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let stage = Stage::new();
    let _a = stage.sign_in("a", SocketAddr::from((Ipv4Addr::LOCALHOST, port)).try_into().unwrap(), 1).await;
    // All of 127.0.0.0/8 is this machine on Linux; elsewhere 127.0.0.1 alone.
    let last = if cfg!(target_os = "linux") { 7 } else { 1 };
    let from = IpAddr::from(Ipv4Addr::new(127, 0, 0, last));
    let channel = stage.builder().local_address(from).build().unwrap();
    let (_socket, peer) = in_time(listener.accept()).await.unwrap();
    assert_eq!(peer.ip(), from);
    drop(channel);

    // One that is not this machine's (RFC 5737), and one of another family than the server's.
    let foreign = Ipv4Addr::new(192, 0, 2, 1);
    for (from, why) in [(foreign.into(), "from 192.0.2.1"), (IpAddr::from(Ipv6Addr::LOCALHOST), "of the family")] {
        let channel = stage.builder().backoff(quick()).local_address(from).build().unwrap();
        until("the attempt has failed", || {
            channel.endpoints().first().is_some_and(|status| status.connection_error.is_some())
        })
        .await;
        let error = endpoint(&channel, "a").connection_error.unwrap().chain();
        assert!(error.starts_with("TCP: ") && error.contains(why), "{error}");
    }
}
