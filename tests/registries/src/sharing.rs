//! Everything in a process that a URL names goes over one client of its registry.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use callboard::{Instance, RegistrationSettings, dial, register, registry, resolver};
use callboard_echo::pb::EchoRequest;
use callboard_echo::{EchoServer, client};
use futures_util::future::{join_all, try_join_all};
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(30);
/// More than ZooKeeper lets one host have connections.
const SERVICES: usize = 64;

/// Announces, dials and resolves this many services by their URLs, `service` being replaced by the service in the one that
/// is given, and says how many connections to the registry that has taken. Returns once there is none left.
pub async fn connections_of_many_services(url: &str, registry: SocketAddr) -> usize {
    let server = EchoServer::start("a").await.unwrap();
    let urls: Vec<_> = (0..SERVICES).map(|number| url.replace("service", &format!("many/{number}"))).collect();
    let signed_in = urls.iter().map(async |url| {
        let (registry, service) = self::registry(url).unwrap();
        let instance = Instance::new("a", server.address().try_into().unwrap()).unwrap();
        let registration = register(registry, &service, instance, RegistrationSettings::default());
        registration.wait_registered(PATIENCE).await.map(|()| registration)
    });
    let signed_in = try_join_all(signed_in).await.unwrap();
    let channels = try_join_all(urls.iter().map(async |url| {
        let channel = dial(&format!("{url}&wait_for_ready")).await?;
        channel.wait_ready(PATIENCE).await.map(|()| channel)
    }));
    let channels = channels.await.unwrap();
    let resolvers: Vec<_> = urls.iter().map(|url| resolver(url).unwrap()).collect();
    for channel in &channels {
        client(channel.clone()).unary(EchoRequest::default()).await.unwrap();
    }
    let open = connections(registry);
    drop((channels, resolvers));
    let left = join_all(signed_in.into_iter().map(callboard::Registration::deregister)).await;
    assert!(left.iter().all(Result::is_ok), "{left:?}");
    let end = Instant::now() + PATIENCE;
    while connections(registry) > 0 {
        assert!(Instant::now() < end, "the client ends with its last user");
        sleep(Duration::from_millis(20)).await;
    }
    open
}

/// How many connections to this address are open, as the system counts them.
fn connections(to: SocketAddr) -> usize {
    let SocketAddr::V4(to) = to else { panic!("an IPv4 address is expected, not {to}") };
    let to = format!("{:08X}:{:04X}", u32::from_ne_bytes(to.ip().octets()), to.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let established = |line: &&str| {
        let mut columns = line.split_whitespace().skip(2);
        columns.next() == Some(to.as_str()) && columns.next() == Some("01")
    };
    table.lines().filter(established).count()
}
