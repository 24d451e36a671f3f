//! Servers that end connections when they are so old, without a proxy.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use callboard_echo::EchoServer;

use crate::cases::{loaded, none_failed};
use crate::client::Client;
use crate::go;
use crate::load::Wish;
use crate::table::row;

/// grpc-go's, after 300 ms. No call fails.
pub async fn grpc_go() {
    let mut programs = Vec::new();
    for _ in 0..3 {
        programs.push(go::program("aged_server").await.arg("300ms").start());
    }
    let mut addresses = Vec::new();
    for program in &programs {
        addresses.push(program.line("127.0.0.1:").await.parse().unwrap());
    }
    one_and_three("grpc-go", "MaxConnectionAge 300ms", &addresses).await;
}

/// tonic's, after 900 ms. No call fails.
pub async fn tonic() {
    let mut servers = Vec::new();
    for id in ["a", "b", "c"] {
        let aged = |server: tonic::transport::Server| server.max_connection_age(Duration::from_millis(900));
        servers.push(EchoServer::start_with(id, (Ipv4Addr::LOCALHOST, 0).into(), aged).await.unwrap());
    }
    let addresses: Vec<_> = servers.iter().map(EchoServer::address).collect();
    one_and_three("tonic", "max_connection_age 900ms", &addresses).await;
}

async fn one_and_three(name: &str, case: &str, addresses: &[SocketAddr]) {
    let client = Client::chosen();
    for endpoints in [1, 3] {
        let tally = loaded(client, &addresses[..endpoints], Wish::MIXED).await;
        row(client, name, case, endpoints, &tally);
        client.holds(|| {
            none_failed(&tally);
            let made = tally.connections.unwrap();
            assert!(made >= 2 * endpoints as u64, "{name} has ended no connection: {made} were made");
        });
    }
}
