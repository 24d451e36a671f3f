//! A balancer of your own: all calls of one user go to one server, which can keep that user's data in memory. It is
//! rendezvous hashing: when a server is removed, only its own users move. Each response says which server answered.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::{collections::BTreeMap, error::Error, sync::Arc, time::Duration};

use callboard::{Balancer, Call, CallMetadata, Channel, ConnectivityState, Instance, Member, Members, Pick, Picker};
use callboard::{RegistrationSettings, backend::Memory, register};
use callboard_echo::{EchoServer, client, pb::EchoRequest};
use http::{HeaderName, HeaderValue};

/// A balancer has a name, and makes a picker whenever the ready endpoints change.
#[derive(Debug)]
struct ByUser;
impl Balancer for ByUser {
    fn name(&self) -> &str {
        "by_user"
    }
    fn picker(&self, members: &Members) -> Box<dyn Picker> {
        let server = |member: &Member| {
            let id = members[*member].instance().id().to_owned();
            let value = HeaderValue::try_from(&id).expect("an id is a header value");
            let metadata = CallMetadata::new().response(HeaderName::from_static("served-by"), value);
            (*member, id, Arc::new(metadata.expect("the name is free")))
        };
        Box::new(Users(members.ready().iter().map(server).collect()))
    }
}

/// The picker chooses a member for each call.
#[derive(Debug)]
struct Users(Vec<(Member, String, Arc<CallMetadata>)>);
impl Picker for Users {
    fn pick(&self, call: &Call<'_>) -> Pick {
        let user = call.headers().get("user");
        let score = |id: &String| BuildHasherDefault::<DefaultHasher>::default().hash_one((user, id));
        // Members where the call has failed, or that have no free place, come after all others.
        let best = self.0.iter().max_by_key(|(member, id, _)| (!call.avoids(*member), score(id)));
        best.map_or(Pick::Wait, |(member, _, metadata)| Pick::With(*member, Arc::clone(metadata)))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (board, service, mut servers) = (Memory::default(), "example/users".parse()?, Vec::new());
    for id in ["a", "b", "c"] {
        let server = EchoServer::start(id).await?;
        let instance = Instance::new(id, server.address().try_into()?)?;
        servers.push((register(Arc::new(board.clone()), &service, instance, RegistrationSettings::default()), server));
    }
    let channel = Channel::builder(service).resolver(board).balancer(ByUser).timeout(Duration::from_secs(5)).build()?;
    let ready = || channel.endpoints().iter().filter(|e| e.endpoint.state() == ConnectivityState::Ready).count();
    for _ in (0..5_000).take_while(|_| ready() < 3) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut served_by = BTreeMap::new();
    for user in (0..30).cycle().take(300) {
        let mut request = tonic::Request::new(EchoRequest::default());
        request.metadata_mut().insert("user", user.into());
        let response = client(channel.clone()).unary(request).await?;
        let server = response.metadata().get("served-by").ok_or("no server is named")?.to_str()?.to_owned();
        assert_eq!(server, response.into_inner().server);
        assert_eq!(*served_by.entry(user).or_insert(server.clone()), server, "user {user} stays with one server");
    }
    let users = ["a", "b", "c"].map(|id| served_by.values().filter(|server| *server == id).count());
    println!("300 calls, and each user stayed with one server: a, b and c have {users:?} users");
    assert!(!users.contains(&0), "every server has users");
    Ok(())
}
