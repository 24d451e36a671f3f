//! A balancer of your own with a child: calls stay in the client's zone as long as a server there is ready, and the
//! child decides which one takes a call. It works with any child, as a member is the same in every view.

use std::{error::Error, sync::Arc, time::Duration};

use callboard::balancer::RoundRobin;
use callboard::{Balancer, Channel, Connect, ConnectivityState, Instance, Member, Members, Picker};
use callboard::{RegistrationSettings, backend::Memory, register};
use callboard_echo::{EchoServer, client, pb::EchoRequest};

/// Lets its child choose among the servers of one zone.
#[derive(Debug)]
struct SameZone<B> {
    zone: &'static str,
    child: B,
}

impl<B: Balancer> Balancer for SameZone<B> {
    fn name(&self) -> &str {
        "same_zone"
    }

    /// The others are connected too: they are needed as soon as the zone has no ready server.
    fn connect(&self, members: &Members) -> Connect {
        self.child.connect(members)
    }

    fn picker(&self, members: &Members) -> Box<dyn Picker> {
        let near = members.ready_if(|member: Member| members[member].instance().zone() == Some(self.zone));
        self.child.picker(if near.ready().is_empty() { members } else { &near })
    }

    fn watches_states(&self) -> bool {
        self.child.watches_states()
    }
    fn uses_weights(&self) -> bool {
        self.child.uses_weights()
    }
    fn refresh_interval(&self) -> Option<Duration> {
        self.child.refresh_interval()
    }
    fn oob_report_interval(&self) -> Option<Duration> {
        self.child.oob_report_interval()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (registry, service, mut servers) = (Memory::default(), "example/zones".parse()?, Vec::new());
    for (id, zone) in [("a", "eu-1"), ("b", "eu-1"), ("c", "eu-2")] {
        let server = EchoServer::start(id).await?;
        let instance = Instance::new(id, server.address().try_into()?)?.with_zone(zone);
        let settings = RegistrationSettings::default();
        servers.push((register(Arc::new(registry.clone()), &service, instance, settings), server));
    }
    let builder = Channel::builder(service).resolver(registry);
    let channel = builder.balancer(SameZone { zone: "eu-1", child: RoundRobin::new() }).build()?;
    while channel.endpoints().iter().filter(|e| e.endpoint.state() == ConnectivityState::Ready).count() < 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut client = client(channel.clone());
    for _ in 0..10 {
        client.unary(EchoRequest::default()).await?;
    }
    let calls = [0, 1, 2].map(|index| servers[index].1.calls());
    println!("eu-1 has servers a and b, and c is in eu-2: {calls:?} calls");
    assert_eq!(calls, [5, 5, 0]);
    for (registration, _) in servers.drain(..2) {
        registration.deregister().await?;
    }
    while channel.endpoints().len() > 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let server = client.unary(EchoRequest::default()).await?.into_inner().server;
    println!("eu-1 has none any more: {server} answers");
    assert_eq!(server, "c");
    Ok(())
}
