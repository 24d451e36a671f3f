//! Starts a server, says where it is and which process, and keeps it until it is ended itself, as by Ctrl-C:
//! `cargo run -p callboard-servers -- etcd`, and how many nodes if it shall be more than one; for a proxy, the addresses of
//! the servers behind it.

use std::process::exit;

use callboard_servers::{Cluster, Setup};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<_> = std::env::args().skip(1).collect();
    let Some(setup) = setup(&args) else {
        eprintln!("usage: callboard-servers etcd|zookeeper|consul [NODES]");
        eprintln!("       callboard-servers nginx|haproxy|nghttpx|envoy NODES ADDRESS...");
        exit(2);
    };
    let cluster = setup.start().await;
    for node in cluster.nodes() {
        println!("{} {}", node.address(), node.id().expect("it has just answered"));
    }
    std::future::pending::<()>().await;
}

fn setup(args: &[String]) -> Option<Setup> {
    let servers: Vec<_> = args.iter().skip(2).map(|address| address.parse()).collect::<Result<_, _>>().ok()?;
    let setup = match args.first()?.as_str() {
        "nginx" => Cluster::nginx(&servers),
        "haproxy" => Cluster::haproxy(&servers),
        "nghttpx" => Cluster::nghttpx(&servers),
        "envoy" => Cluster::envoy(&servers),
        "etcd" => Cluster::etcd(),
        "zookeeper" => Cluster::zookeeper(),
        "consul" => Cluster::consul(),
        _ => return None,
    };
    let nodes = args.get(1).map_or(Ok(1), |nodes| nodes.parse());
    Some(setup.nodes(nodes.ok()?))
}
