//! What balancers can be made of: all members with their states, connections on demand, metadata, and children.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use callboard::balancer::{PickFirst, RoundRobin};
use callboard::{
    Balancer, Call, CallMetadata, Code, Connect, ConnectivityState, Endpoint, Member, Members, Outcome, Pick, Picker,
    Status,
};
use callboard_echo::pb::EchoRequest;
use common::lookaside::Noting;
use common::{Stage, echo, endpoint, in_time, request, shares, until, until_endpoints};
use http::{HeaderName, HeaderValue};

fn member(members: &Members, id: &str) -> Option<Member> {
    members.iter().find(|member| members[*member].instance().id() == id)
}

/// Sends calls to the endpoint that they name, and connects it when the first call wants it.
#[derive(Debug)]
struct OnDemand;

#[derive(Debug)]
struct Named(Members);

impl Balancer for OnDemand {
    fn name(&self) -> &str {
        "on_demand"
    }

    fn connect(&self, _: &Members) -> Connect {
        Connect::on_demand()
    }

    fn picker(&self, members: &Members) -> Box<dyn Picker> {
        Box::new(Named(members.clone()))
    }
}

impl Picker for Named {
    fn pick(&self, call: &Call<'_>) -> Pick {
        let wanted = call.headers().get("x-server").and_then(|id| id.to_str().ok()).unwrap_or_default();
        match member(&self.0, wanted) {
            None => Pick::Drop(Status::new(Code::Unavailable, "there is no such server")),
            Some(member) if self.0.ready().contains(&member) => Pick::To(member),
            Some(member) if self.0[member].state() == ConnectivityState::TransientFailure => {
                Pick::Fail(Status::unavailable("it does not work"))
            }
            Some(member) => Pick::Connect(member),
        }
    }
}

fn wanting(id: &str) -> tonic::Request<EchoRequest> {
    let mut request = tonic::Request::new(request());
    request.metadata_mut().insert("x-server", id.parse().unwrap());
    request
}

fn states(channel: &callboard::Channel) -> Vec<ConnectivityState> {
    channel.endpoints().iter().map(|status| status.endpoint.state()).collect()
}

#[tokio::test]
async fn an_endpoint_is_connected_when_a_pick_asks_for_it_and_not_before() {
    use ConnectivityState::{Idle, Ready};
    let stage = Stage::new();
    let (a, _a) = stage.server("a").await;
    let (b, _b) = stage.server("b").await;
    let channel = stage.builder().balancer(OnDemand).build().unwrap();
    until_endpoints(&channel, &["a", "b"]).await;
    assert_eq!(states(&channel), [Idle, Idle]);
    let mut client = echo(&channel);
    assert_eq!(in_time(client.unary(wanting("b"))).await.unwrap().into_inner().server, "b");
    assert_eq!((states(&channel), a.connections(), b.connections()), (vec![Idle, Ready], 0, 1));
    let status = in_time(client.unary(wanting("c"))).await.unwrap_err();
    assert_eq!(status.message(), "there is no such server");
    assert_eq!(in_time(client.unary(wanting("a"))).await.unwrap().into_inner().server, "a");
    assert_eq!(states(&channel), [Ready, Ready]);
}

#[tokio::test]
async fn what_was_connected_on_demand_and_is_lost_is_idle_until_it_is_asked_for_again() {
    let stage = Stage::new();
    let (server, _a) = stage.server("a").await;
    let address = server.address();
    let channel = stage.builder().balancer(OnDemand).build().unwrap();
    let mut client = echo(&channel);
    in_time(client.unary(wanting("a"))).await.unwrap();
    server.kill().await;
    until("it is idle", || states(&channel) == [ConnectivityState::Idle]).await;
    let status = in_time(client.unary(wanting("a"))).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::Unavailable, "it does not work"));
    let _again = callboard_echo::EchoServer::start_at("a", address).await.unwrap();
    channel.reset_connect_backoff();
    until("it is ready again", || states(&channel) == [ConnectivityState::Ready]).await;
    in_time(client.unary(wanting("a"))).await.unwrap();
}

#[tokio::test]
async fn those_are_connected_that_the_balancer_names_and_the_others_are_closed() {
    /// Connects all but those whose metadata say so.
    #[derive(Debug)]
    struct But(RoundRobin);

    impl Balancer for But {
        fn name(&self) -> &str {
            "but"
        }

        fn connect(&self, members: &Members) -> Connect {
            Connect::Only(members.iter().filter(|member| members[*member].weight() > 0).collect())
        }

        fn picker(&self, members: &Members) -> Box<dyn Picker> {
            self.0.picker(members)
        }
    }
    let stage = Stage::new();
    let (a, a_registered) = stage.server("a").await;
    let (b, _b) = stage.weighted("b", 0).await;
    let channel = stage.channel(stage.builder().balancer(But(RoundRobin::new())), 1).await;
    assert_eq!((a.connections(), b.connections()), (1, 0));
    a_registered.update(|instance| instance.set_weight(0));
    until("it is closed", || a.connections() == 0).await;
    let soon = common::within(std::time::Duration::from_millis(50), request());
    let status = in_time(echo(&channel).unary(soon)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded, "nothing has failed");
    a_registered.update(|instance| instance.set_weight(1));
    in_time(echo(&channel).unary(request())).await.unwrap();
}

/// Keeps calls from some endpoints, whose connections stay, and counts what its child's picks come to.
#[derive(Debug)]
struct Ejecting {
    child: Arc<dyn Balancer>,
    ejected: Arc<Mutex<Vec<String>>>,
    ended: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct EjectingPicker {
    child: Box<dyn Picker>,
    ended: Arc<AtomicUsize>,
}

impl Balancer for Ejecting {
    fn name(&self) -> &str {
        "ejecting"
    }

    fn connect(&self, members: &Members) -> Connect {
        self.child.connect(members)
    }

    fn picker(&self, members: &Members) -> Box<dyn Picker> {
        let ejected = self.ejected.lock().unwrap();
        let left = members.ready_if(|member| !ejected.iter().any(|id| members[member].instance().id() == id));
        Box::new(EjectingPicker { child: self.child.picker(&left), ended: Arc::clone(&self.ended) })
    }

    fn refresh_interval(&self) -> Option<std::time::Duration> {
        Some(std::time::Duration::from_millis(10))
    }
}

impl Picker for EjectingPicker {
    fn pick(&self, call: &Call<'_>) -> Pick {
        self.child.pick(call)
    }

    fn done(&self, picked: Member, outcome: &Outcome) {
        self.ended.fetch_add(1, Ordering::SeqCst);
        self.child.done(picked, outcome);
    }
}

#[tokio::test]
async fn a_wrapper_keeps_calls_from_an_endpoint_whatever_its_child_is() {
    let children: [Arc<dyn Balancer>; 2] =
        [Arc::new(RoundRobin::new()), Arc::new(callboard::balancer::Weighted::new())];
    for child in children {
        let stage = Stage::new();
        let servers = [stage.server("a").await, stage.server("b").await, stage.server("c").await];
        let (ejected, ended) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicUsize>::default());
        let balancer = Ejecting { child, ejected: Arc::clone(&ejected), ended: Arc::clone(&ended) };
        let channel = stage.channel(stage.builder().balancer(balancer), 3).await;
        assert_eq!(shares(&channel, 30).await.len(), 3);
        ejected.lock().unwrap().push("b".to_owned());
        let (mut calls, mut served) = (30, shares(&channel, 30).await);
        let left = async {
            while served.contains_key("b") {
                calls += 30;
                served = shares(&channel, 30).await;
            }
        };
        in_time(left).await;
        assert_eq!(served.keys().collect::<Vec<_>>(), ["a", "c"]);
        assert_eq!(servers[1].0.connections(), 1, "its connection stays");
        assert_eq!(endpoint(&channel, "b").endpoint.state(), ConnectivityState::Ready);
        assert_eq!(ended.load(Ordering::SeqCst), calls + 30);
    }
}

#[tokio::test]
async fn a_child_that_connects_in_order_does_so_within_a_view() {
    #[derive(Debug)]
    struct Without(&'static str, PickFirst);

    impl Without {
        fn left(&self, members: &Members) -> Members {
            members.subset(|member| members[member].instance().id() != self.0)
        }
    }

    impl Balancer for Without {
        fn name(&self) -> &str {
            "without"
        }

        fn connect(&self, members: &Members) -> Connect {
            self.1.connect(&self.left(members)).within(&self.left(members))
        }

        fn picker(&self, members: &Members) -> Box<dyn Picker> {
            self.1.picker(&self.left(members))
        }
    }
    let stage = Stage::new();
    let (a, _a) = stage.server("a").await;
    let (_b, _b2) = stage.server("b").await;
    let channel = stage.channel(stage.builder().balancer(Without("a", PickFirst::new())), 1).await;
    assert_eq!(shares(&channel, 10).await.keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(a.accepted(), 0);
}

/// Gives each call a token for the server, and names the server to the caller.
#[derive(Debug, Default)]
struct Marking;

#[derive(Debug)]
struct MarkingPicker(Vec<(Member, Arc<CallMetadata>)>);

impl Balancer for Marking {
    fn name(&self) -> &str {
        "marking"
    }

    fn picker(&self, members: &Members) -> Box<dyn Picker> {
        let metadata = |endpoint: &Endpoint| {
            let id = HeaderValue::from_str(endpoint.instance().id()).unwrap();
            let metadata = CallMetadata::new().request(HeaderName::from_static("lb-token"), id.clone()).unwrap();
            Arc::new(metadata.response(HeaderName::from_static("x-served-by"), id).unwrap())
        };
        Box::new(MarkingPicker(members.ready().iter().map(|m| (*m, metadata(&members[*m]))).collect()))
    }
}

impl Picker for MarkingPicker {
    fn pick(&self, _: &Call<'_>) -> Pick {
        let (member, metadata) = &self.0[0];
        Pick::With(*member, Arc::clone(metadata))
    }
}

#[tokio::test]
async fn what_a_pick_adds_is_sent_to_the_server_and_given_to_the_caller() {
    let stage = Stage::new();
    let server = Noting::start("a").await;
    let _a = stage.sign_in("a", server.server.address.try_into().unwrap(), 1).await;
    let channel = stage.channel(stage.builder().balancer(Marking), 1).await;
    let mut mine = tonic::Request::new(request());
    mine.metadata_mut().insert("lb-token", "forged".parse().unwrap());
    let response = in_time(echo(&channel).unary(mine)).await.unwrap();
    assert_eq!(response.metadata().get("x-served-by").unwrap(), "a");
    assert_eq!((server.calls(Some("a")), server.all_calls()), (1, 1), "the balancer's word counts");
}

#[test]
fn a_pick_cannot_say_what_is_grpcs_own() {
    for name in ["grpc-timeout", "te", "content-type", "user-agent"] {
        let (name, value) = (HeaderName::from_static(name), HeaderValue::from_static("1"));
        let refused = CallMetadata::new().request(name.clone(), value.clone());
        assert!(refused.unwrap_err().to_string().contains(name.as_str()));
        CallMetadata::new().response(name, value).unwrap_err();
    }
}

/// Keeps what it is told.
#[derive(Clone, Debug, Default)]
struct Keeping(Arc<Mutex<Vec<Outcome>>>);

#[derive(Debug)]
struct KeepingPicker(Member, Keeping);

impl Balancer for Keeping {
    fn name(&self) -> &str {
        "keeping"
    }

    fn picker(&self, members: &Members) -> Box<dyn Picker> {
        Box::new(KeepingPicker(members.ready()[0], self.clone()))
    }
}

impl Picker for KeepingPicker {
    fn pick(&self, _: &Call<'_>) -> Pick {
        Pick::To(self.0)
    }

    fn done(&self, _: Member, outcome: &Outcome) {
        self.1.0.lock().unwrap().push(outcome.clone());
    }
}

#[tokio::test]
async fn an_outcome_says_what_was_sent_and_received() {
    let stage = Stage::new();
    let (_a, _a2) = stage.server("a").await;
    let balancer = Keeping::default();
    let channel = stage.channel(stage.builder().balancer(balancer.clone()), 1).await;
    let mut client = echo(&channel);
    let payload = |bytes: usize| EchoRequest { payload: vec![7; bytes], ..request() };
    in_time(client.unary(payload(10_000))).await.unwrap();
    in_time(client.client_streaming(tokio_stream::iter(vec![payload(100_000); 3]))).await.unwrap();
    let told = || balancer.0.lock().unwrap().clone();
    until("both are told of", || told().len() == 2).await;
    let [unary, streaming] = &told()[..] else { panic!("two calls: {:?}", told()) };
    assert!(unary.used && unary.sent && unary.received, "{unary:?}");
    // The message, its two fields' tags, and gRPC's prefix of five bytes.
    assert!((10_005..10_040).contains(&unary.bytes_sent), "{unary:?}");
    assert!((10_005..10_100).contains(&unary.bytes_received), "{unary:?}");
    assert!((300_015..300_100).contains(&streaming.bytes_sent), "{streaming:?}");
}

/// Says whether it was asked again, and how many attempts there were.
#[derive(Clone, Debug, Default)]
struct Asked(Arc<Mutex<Vec<(bool, u32)>>>);

#[derive(Debug)]
struct AskedPicker(Arc<[Member]>, Asked);

impl Balancer for Asked {
    fn name(&self) -> &str {
        "asked"
    }

    fn picker(&self, members: &Members) -> Box<dyn Picker> {
        Box::new(AskedPicker(Arc::clone(members.ready()), self.clone()))
    }
}

impl Picker for AskedPicker {
    fn pick(&self, call: &Call<'_>) -> Pick {
        self.1.0.lock().unwrap().push((call.is_asked_again(), call.previous_attempts()));
        let free = self.0.iter().find(|member| !call.avoids(**member));
        Pick::To(*free.unwrap_or(&self.0[0]))
    }
}

#[tokio::test]
async fn a_picker_knows_that_it_is_asked_again_for_one_call() {
    let stage = Stage::new();
    let (a, _a) = stage.limited("a", 1).await;
    let (_b, _b2) = stage.limited("b", 1).await;
    let balancer = Asked::default();
    let channel = stage.channel(stage.builder().balancer(balancer.clone()), 2).await;
    let mut client = echo(&channel);
    let held = tokio::spawn({
        let mut client = client.clone();
        async move { client.unary(common::slow(60_000)).await }
    });
    until("it is held", || a.in_flight() == 1).await;
    assert_eq!(in_time(client.unary(request())).await.unwrap().into_inner().server, "b");
    assert_eq!(*balancer.0.lock().unwrap(), [(false, 0), (false, 0), (true, 0)]);
    held.abort();
}
