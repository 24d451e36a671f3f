//! Servers come, go and change while calls go on.

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use callboard::balancer::Weighted;
use callboard::{
    Balancer, Connect, ConnectivityState, ErrorKind, Instance, Members, Picker, RegistrationState, ServedBy,
};
use callboard_echo::EchoServer;
use common::listing::Listing;
use common::{Stage, echo, endpoint, in_time, request, shares, slow, until, until_endpoints, until_ready};

#[tokio::test]
async fn a_server_that_leaves_finishes_its_calls_and_gets_no_new_ones() {
    let stage = Stage::new();
    let (leaver, registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let mut client = echo(&channel);
            tokio::spawn(async move { client.unary(slow(1_500)).await })
        })
        .collect();
    until("all calls have arrived", || leaver.in_flight() == 100).await;
    let left = endpoint(&channel, "a").endpoint;
    let (_stayer, _b) = stage.server("b").await;
    until_ready(&channel, 2).await;
    registration.deregister().await.unwrap();
    until_endpoints(&channel, &["b"]).await;
    assert_eq!(shares(&channel, 50).await, BTreeMap::from([("b".to_owned(), 50)]));
    assert_eq!((leaver.connections(), leaver.calls()), (1, 100));
    for call in calls {
        assert_eq!(in_time(call).await.unwrap().unwrap().into_inner().server, "a");
    }
    until("its socket is closed", || leaver.connections() == 0).await;
    assert_eq!((leaver.calls(), leaver.accepted()), (100, 1));
    assert_eq!((left.in_flight(), left.calls()), (0, 100));
    assert_eq!(left.state(), ConnectivityState::Shutdown);
}

#[tokio::test]
async fn a_stream_goes_on_after_its_server_has_left_the_board() {
    let stage = Stage::new();
    let (server, registration) = stage.server("a").await;
    let (_stayer, _b) = stage.server("b").await;
    let balancer = callboard::balancer::PickFirst::new();
    let channel = stage.channel(stage.builder().balancer(balancer), 1).await;
    let (requests, body) = tokio::sync::mpsc::channel(1);
    let body = tokio_stream::wrappers::ReceiverStream::new(body);
    let mut answers = echo(&channel).bidirectional(body).await.unwrap().into_inner();
    registration.deregister().await.unwrap();
    until_endpoints(&channel, &["b"]).await;
    until_ready(&channel, 1).await;
    for _ in 0..10 {
        requests.send(request()).await.unwrap();
        assert_eq!(in_time(answers.message()).await.unwrap().expect("an answer").server, "a");
    }
    drop(requests);
    assert!(in_time(answers.message()).await.unwrap().is_none());
    until("its socket is closed", || server.connections() == 0).await;
}

#[tokio::test]
async fn a_change_of_weight_keeps_the_socket_and_is_in_force() {
    let stage = Stage::new();
    let (a, registration) = stage.weighted("a", 1).await;
    let (b, _b) = stage.weighted("b", 1).await;
    let channel = stage.channel(stage.builder().balancer(Weighted::new()), 2).await;
    assert_eq!(shares(&channel, 40).await["a"], 20);
    registration.update(|instance| instance.set_weight(3));
    until("the weight is known", || endpoint(&channel, "a").endpoint.weight() == 3).await;
    assert_eq!(shares(&channel, 400).await["a"], 300);
    registration.update(|instance| instance.set_weight(0));
    until("the weight is known", || endpoint(&channel, "a").endpoint.weight() == 0).await;
    assert_eq!(shares(&channel, 40).await, BTreeMap::from([("b".to_owned(), 40)]));
    assert_eq!((a.accepted(), b.accepted()), (1, 1));
    assert_eq!(endpoint(&channel, "a").endpoint.calls(), 320, "the figures go on");
}

#[tokio::test]
async fn a_change_of_metadata_and_zone_keeps_the_socket_and_is_seen() {
    let stage = Stage::new();
    let (server, registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    shares(&channel, 10).await;
    registration.update(|instance| {
        instance.metadata_mut().insert("version".into(), "2".into());
        instance.set_zone(Some("north".into()));
    });
    until("it is known", || endpoint(&channel, "a").endpoint.instance().zone().is_some()).await;
    let response = echo(&channel).unary(request()).await.unwrap();
    let ServedBy(seen) = response.extensions().get().expect("the endpoint");
    assert_eq!((&*seen.instance().metadata()["version"], seen.instance().zone()), ("2", Some("north")));
    assert_eq!((server.accepted(), seen.calls()), (1, 11));
}

#[tokio::test]
async fn a_server_that_joins_gets_its_share() {
    let stage = Stage::new();
    let (_a, _a2) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    shares(&channel, 10).await;
    let (_b, _b2) = stage.server("b").await;
    until_ready(&channel, 2).await;
    let expected = BTreeMap::from(["a", "b"].map(|id| (id.to_owned(), 50)));
    assert_eq!(shares(&channel, 100).await, expected);
}

#[tokio::test]
async fn an_instance_that_moves_is_called_at_its_new_address() {
    let stage = Stage::new();
    let (former, first) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    shares(&channel, 10).await;
    let latter = EchoServer::start("a").await.unwrap();
    let _second = stage.sign_in("a", latter.address().try_into().unwrap(), 1).await;
    until("the new address is known", || {
        endpoint(&channel, "a").endpoint.instance().address()
            == &callboard::Address::try_from(latter.address()).unwrap()
    })
    .await;
    assert_eq!(channel.endpoints().len(), 1);
    shares(&channel, 10).await;
    assert_eq!((former.calls(), latter.calls()), (10, 10));
    until("the old socket is closed", || former.connections() == 0).await;
    let taken = |state| matches!(state, RegistrationState::Lost { error, .. } if error.kind() == ErrorKind::Conflict);
    until("the first knows that its id is another's", || taken(first.state())).await;
}

#[tokio::test]
async fn an_address_under_a_new_name_keeps_its_socket() {
    let server = EchoServer::start("a").await.unwrap();
    let under = |id| vec![Instance::new(id, server.address().try_into().unwrap()).unwrap()];
    let listing = Listing::by_turns(Duration::from_millis(100), ["old", "new"].map(under));
    let channel = Stage::new().builder().resolver(listing).build().unwrap();
    for id in ["old", "new", "old"] {
        until_endpoints(&channel, &[id]).await;
        echo(&channel).unary(request()).await.unwrap();
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn two_instances_at_one_address_both_get_calls() {
    let stage = Stage::new();
    let server = EchoServer::start("a").await.unwrap();
    let _first = stage.sign_in("a", server.address().try_into().unwrap(), 1).await;
    let _second = stage.sign_in("b", server.address().try_into().unwrap(), 1).await;
    let channel = stage.channel(stage.builder(), 2).await;
    let each_gets_ten = async |ids: &[&str]| {
        let mut served = BTreeMap::<String, usize>::new();
        for _ in 0..10 * ids.len() {
            let response = echo(&channel).unary(request()).await.unwrap();
            let ServedBy(endpoint) = response.extensions().get().unwrap();
            *served.entry(endpoint.instance().id().to_owned()).or_default() += 1;
        }
        assert!(served.into_iter().eq(ids.iter().map(|id| ((*id).to_owned(), 10))));
    };
    each_gets_ten(&["a", "b"]).await;
    // Each has a connection of its own, and keeps it when somebody else comes.
    let (_other, _third) = stage.server("c").await;
    until_ready(&channel, 3).await;
    each_gets_ten(&["a", "b", "c"]).await;
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn a_new_incarnation_at_a_failed_address_is_dialled_at_once() {
    let stage = Stage::new();
    let (server, first) = stage.server("a").await;
    let address = server.address();
    // After the first failure, nothing is tried again for an hour.
    let hour = Duration::from_secs(3600);
    let backoff = callboard::Backoff::new(hour, hour, 1.0, 0.0).unwrap();
    let channel = stage.channel(stage.builder().backoff(backoff), 1).await;
    server.kill().await;
    until("it has failed", || endpoint(&channel, "a").retry_at.is_some()).await;
    let server = EchoServer::start_at("a", address).await.unwrap();
    let begun = Instant::now();
    let _second = stage.sign_in("a", address.try_into().unwrap(), 1).await;
    until_ready(&channel, 1).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!((server.accepted(), server.calls()), (1, 0));
    drop(first);
}

/// Counts the pickers that another balancer makes.
#[derive(Debug)]
struct Counted<B>(B, Arc<AtomicUsize>);

impl<B: Balancer> Balancer for Counted<B> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn connect(&self, endpoints: &Members) -> Connect {
        self.0.connect(endpoints)
    }

    fn picker(&self, ready: &Members) -> Box<dyn Picker> {
        self.1.fetch_add(1, Ordering::SeqCst);
        self.0.picker(ready)
    }
}

#[tokio::test]
async fn a_thousand_changes_make_a_handful_of_pickers_and_no_connection() {
    let stage = Stage::new();
    let (a, registration) = stage.weighted("a", 1).await;
    let (b, _b) = stage.weighted("b", 1).await;
    let pickers = Arc::new(AtomicUsize::new(0));
    let channel = stage.channel(stage.builder().balancer(Counted(Weighted::new(), Arc::clone(&pickers))), 2).await;
    let before = pickers.load(Ordering::SeqCst);
    let begun = Instant::now();
    for change in 1..=1_000u32 {
        registration.update(|instance| instance.set_weight(if change == 1_000 { 3 } else { 1_000 + change }));
        // Ten each millisecond, as registry and channel get their turns in between.
        tokio::task::yield_now().await;
        if change % 10 == 0 {
            tokio::time::sleep_until((begun + Duration::from_millis(u64::from(change) / 10)).into()).await;
        }
    }
    let took = begun.elapsed();
    until("the last weight is known", || endpoint(&channel, "a").endpoint.weight() == 3).await;
    let made = pickers.load(Ordering::SeqCst) - before;
    // One for each 20 ms; on a busy machine the changes themselves take longer.
    let most = usize::max(10, took.as_millis() as usize / 20 + 3);
    assert!((1..=most).contains(&made), "{made} pickers in {took:?}");
    assert_eq!(shares(&channel, 400).await["a"], 300);
    assert_eq!((a.accepted(), b.accepted()), (1, 1));
}
