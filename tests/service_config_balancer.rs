//! The service's config chooses the balancer.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use callboard::balancer::{PickFirst, RoundRobin, Weighted};
use callboard::{
    Balancer, BalancerSettings, Channel, Connect, Dialer, Error, ErrorKind, Member, Members, Picker, Result, ServedBy,
};
use callboard_echo::EchoServer;
use common::silent::Deaf;
use common::{
    PATIENCE, Stage, echo, endpoint, in_time, request, shares, slow, until, until_config, until_ready, until_refused,
};
use serde::Deserialize;

const ROUND_ROBIN: &str = r#"{"loadBalancingConfig": [{"round_robin": {}}]}"#;
const WEIGHTED: &str = r#"{"loadBalancingConfig": [{"weighted": {}}]}"#;
const PICK_FIRST: &str = r#"{"loadBalancingConfig": [{"pick_first": {}}]}"#;

/// Makes this many calls, and says how many went to the server `a`.
async fn to_a(channel: &Channel, calls: usize) -> usize {
    shares(channel, calls).await.get("a").copied().unwrap_or_default()
}

/// A balancer of the user's own: sends all calls to the endpoint of one name if it is ready, and counts its pickers.
#[derive(Clone, Debug)]
struct Favourite {
    id: String,
    pickers: Arc<AtomicUsize>,
}

/// What a config says of it: `{"favourite": {"id": "b"}}`.
#[derive(Deserialize)]
struct Settings {
    id: String,
}

impl Favourite {
    fn of(id: &str) -> Self {
        Self { id: id.to_owned(), pickers: Arc::default() }
    }

    fn make(settings: &BalancerSettings) -> Result<Arc<dyn Balancer>> {
        let Settings { id } = settings.read()?;
        Ok(Arc::new(Self::of(&id)))
    }
}

impl Balancer for Favourite {
    fn name(&self) -> &str {
        "favourite"
    }

    fn picker(&self, members: &Members) -> Box<dyn Picker> {
        self.pickers.fetch_add(1, Ordering::SeqCst);
        let named = members.ready().iter().find(|member| members[**member].instance().id() == self.id);
        Box::new(Only(named.copied()))
    }
}

#[derive(Debug)]
struct Only(Option<Member>);

impl Picker for Only {
    fn pick(&self, _: &callboard::Call<'_>) -> callboard::Pick {
        self.0.map_or(callboard::Pick::Wait, callboard::Pick::To)
    }
}

#[tokio::test]
async fn the_registrys_balancer_counts_and_the_channels_own_is_the_default() {
    let stage = Stage::new();
    let servers = [stage.weighted("a", 3).await, stage.weighted("b", 1).await];
    let channel = stage.channel(stage.builder(), 2).await;
    assert_eq!((to_a(&channel, 400).await, &*channel.service_config().balancer), (200, "round_robin"));

    stage.put_service_config(Some(WEIGHTED)).await;
    until_config(&channel, Some(WEIGHTED)).await;
    assert_eq!((to_a(&channel, 400).await, &*channel.service_config().balancer), (300, "weighted"));

    // An empty list leaves the choice to the client.
    let empty = r#"{"loadBalancingConfig": []}"#;
    stage.put_service_config(Some(empty)).await;
    until_config(&channel, Some(empty)).await;
    assert_eq!((to_a(&channel, 400).await, &*channel.service_config().balancer), (200, "round_robin"));

    let by_name = r#"{"loadBalancingPolicy": "WEIGHTED"}"#;
    stage.put_service_config(Some(by_name)).await;
    until_config(&channel, Some(by_name)).await;
    assert_eq!(to_a(&channel, 400).await, 300);

    stage.put_service_config(None).await;
    until_config(&channel, None).await;
    assert_eq!((to_a(&channel, 400).await, &*channel.service_config().balancer), (200, "round_robin"));
    assert!(servers.iter().all(|(server, _)| server.accepted() == 1), "no change has made a connection");
}

#[tokio::test]
async fn the_builders_and_the_urls_balancer_give_way_to_the_config() {
    let stage = Stage::new();
    let _servers = [stage.weighted("a", 3).await, stage.weighted("b", 1).await];
    let dialer = Dialer::new().resolver("memory", stage.board.clone());
    let dialled = dialer.dial("memory:///project/test?balancer=weighted").await.unwrap();
    let channels = [dialled, stage.builder().balancer(Weighted::new()).build().unwrap()];
    for channel in &channels {
        until_ready(channel, 2).await;
        assert_eq!(to_a(channel, 400).await, 300);
    }
    stage.put_service_config(Some(ROUND_ROBIN)).await;
    for channel in &channels {
        until_config(channel, Some(ROUND_ROBIN)).await;
        assert_eq!(to_a(channel, 400).await, 200);
    }
    // A channel that is built now has it from its first call on.
    let channel = stage.channel(stage.builder().balancer(PickFirst::new()), 2).await;
    assert_eq!(to_a(&channel, 400).await, 200);
}

#[tokio::test]
async fn the_first_known_balancer_counts_and_none_known_refuses_the_config() {
    let stage = Stage::new();
    let _servers = [stage.weighted("a", 3).await, stage.weighted("b", 1).await];
    let channel = stage.channel(stage.builder(), 2).await;
    // The settings of what is not chosen are nobody's business.
    let config = r#"{"loadBalancingConfig": [{"their_own": {}}, {"weighted": {"x": 1}}, {"pick_first": {"shuffleAddressList": 1}}]}"#;
    stage.put_service_config(Some(config)).await;
    until_config(&channel, Some(config)).await;
    assert_eq!(to_a(&channel, 400).await, 300);

    stage.put_service_config(Some(r#"{"loadBalancingConfig": [{"their_own": {}}, {"its_own": {}}]}"#)).await;
    let status = until_refused(&channel, r#""their_own", "its_own" (known: pick_first, round_robin, weighted"#).await;
    assert_eq!((status.active.as_deref(), &*status.balancer), (Some(config), "weighted"), "the former one stays");
    assert_eq!(status.rejected.unwrap().kind(), ErrorKind::Unsupported);
    assert_eq!(to_a(&channel, 400).await, 300);
}

#[tokio::test]
async fn bad_settings_of_a_known_balancer_refuse_the_config() {
    let stage = Stage::new();
    let _servers = [stage.server("a").await, stage.server("b").await];
    stage
        .put_service_config(Some(
            r#"{"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": 1}}, {"weighted": {}}]}"#,
        ))
        .await;
    let channel = stage.channel(stage.builder(), 2).await;
    let why = r#"project/test: settings of balancer "pick_first": shuffleAddressList: invalid type: integer `1`"#;
    let status = until_refused(&channel, why).await;
    assert_eq!((status.active, &*status.balancer), (None, "round_robin"), "there was none: the default stays");
    assert_eq!(to_a(&channel, 100).await, 50);

    let shuffled = r#"{"loadBalancingConfig": [{"pick_first": {"shuffleAddressList": true}}]}"#;
    stage.put_service_config(Some(shuffled)).await;
    until_config(&channel, Some(shuffled)).await;
    assert!([0, 100].contains(&to_a(&channel, 100).await));
}

#[tokio::test]
async fn the_registrys_config_can_be_turned_off_wholly() {
    let stage = Stage::new();
    let _servers = [stage.weighted("a", 3).await, stage.weighted("b", 1).await];
    stage
        .put_service_config(Some(
            r#"{"loadBalancingConfig": [{"weighted": {}}], "methodConfig": [{"name": [{}], "timeout": "0s"}]}"#,
        ))
        .await;
    let dialer = Dialer::new().resolver("memory", stage.board.clone());
    let dialled = dialer.dial("memory:///project/test?service_config=false").await.unwrap();
    for channel in [dialled, stage.builder().service_config(false).build().unwrap()] {
        until_ready(&channel, 2).await;
        assert_eq!(to_a(&channel, 400).await, 200);
        let status = channel.service_config();
        assert_eq!((status.active, &*status.balancer, status.rejected.is_none()), (None, "round_robin", true));
    }
    let error = dialer.dial("memory:///project/test?service_config=maybe").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("service_config"), "{error}");
}

#[tokio::test]
async fn a_balancer_of_the_users_own_is_found_by_its_name_with_its_settings() {
    let stage = Stage::new();
    let servers = [stage.server("a").await, stage.server("b").await];
    let dialer = Dialer::new().resolver("memory", stage.board.clone()).register_balancer("favourite", Favourite::make);
    let channels = [
        dialer.dial("memory:///project/test").await.unwrap(),
        stage.builder().register_balancer("favourite", Favourite::make).build().unwrap(),
        dialer.builder("memory:///project/test?balancer=pick_first").unwrap().build().unwrap(),
    ];
    for (id, expected) in [("a", 50), ("b", 0), ("a", 50)] {
        let config = format!(r#"{{"loadBalancingConfig": [{{"favourite": {{"id": "{id}"}}}}, {{"weighted": {{}}}}]}}"#);
        stage.put_service_config(Some(&config)).await;
        for channel in &channels {
            until_config(channel, Some(&config)).await;
            until_ready(channel, 2).await;
            assert_eq!(to_a(channel, 50).await, expected, "{config}");
        }
    }
    let connections: Vec<_> = servers.iter().map(|(server, _)| server.accepted()).collect();
    assert_eq!(connections, [channels.len() as u64; 2], "other settings have made no connection");

    let error = dialer.dial("memory:///project/test?balancer=favourite").await.unwrap_err();
    assert!(error.to_string().contains(r#"settings of balancer "favourite": missing field `id`"#), "{error}");
    stage.put_service_config(Some(r#"{"loadBalancingConfig": [{"favourite": {}}]}"#)).await;
    until_refused(&channels[0], r#"settings of balancer "favourite": missing field `id`"#).await;
}

#[tokio::test]
async fn a_balancer_without_settings_is_found_by_its_own_name() {
    let stage = Stage::new();
    let _servers = [stage.server("a").await, stage.server("b").await];
    let favourite = Favourite::of("b");
    let dialer = Dialer::new().resolver("memory", stage.board.clone()).balancer(favourite.clone());
    let channels =
        [dialer.dial("memory:///project/test").await.unwrap(), stage.builder().balancer(favourite).build().unwrap()];
    for config in [ROUND_ROBIN, r#"{"loadBalancingConfig": [{"favourite": {"whatever": [1]}}]}"#] {
        stage.put_service_config(Some(config)).await;
        for channel in &channels {
            until_config(channel, Some(config)).await;
            until_ready(channel, 2).await;
            assert_eq!(to_a(channel, 50).await, if config == ROUND_ROBIN { 25 } else { 0 });
        }
    }
}

#[tokio::test]
async fn a_balancer_that_cannot_be_made_refuses_the_config_and_the_channel_goes_on() {
    let stage = Stage::new();
    let _servers = [stage.weighted("a", 3).await, stage.weighted("b", 1).await];
    let builder = stage
        .builder()
        .register_balancer("fails", |_| Err(Error::invalid("there is no map of the city")))
        .register_balancer("panics", |settings| panic!("did not think of {settings:?}"));
    let channel = stage.channel(builder, 2).await;
    for (name, why) in [
        ("fails", "there is no map of the city"),
        ("panics", "making balancer \"panics\" has panicked: did not think of BalancerSettings"),
    ] {
        stage.put_service_config(Some(&format!(r#"{{"loadBalancingConfig": [{{"{name}": {{}}}}]}}"#))).await;
        until_refused(&channel, why).await;
        assert_eq!(to_a(&channel, 100).await, 50);
    }
    stage.put_service_config(Some(WEIGHTED)).await;
    until_config(&channel, Some(WEIGHTED)).await;
    assert_eq!(to_a(&channel, 100).await, 75);
}

/// Calls without a pause until it is told to stop. Every call must succeed.
struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<tokio::task::JoinHandle<usize>>,
    last: Arc<Mutex<BTreeMap<String, Instant>>>,
}

impl Load {
    fn start(channel: &Channel, callers: usize) -> Self {
        let (stop, last) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeMap::new())));
        let call = |caller: usize| {
            let (channel, stop, last) = (channel.clone(), Arc::clone(&stop), Arc::clone(&last));
            tokio::spawn(async move {
                let (mut client, mut calls) = (echo(&channel), 0);
                while !stop.load(Ordering::Relaxed) {
                    // Some are in flight for longer than a change takes.
                    let message = if caller.is_multiple_of(4) { slow(20) } else { request() };
                    let response = client.unary(message).await.expect("no call fails");
                    let ServedBy(endpoint) = response.extensions().get().unwrap();
                    last.lock().unwrap().insert(endpoint.instance().id().to_owned(), Instant::now());
                    calls += 1;
                }
                calls
            })
        };
        let callers = (0..callers).map(call).collect();
        Self { stop, callers, last }
    }

    /// Waits until exactly these servers have answered since now.
    async fn until_served_by(&self, expected: usize) {
        let now = Instant::now();
        until("the servers that are meant answer", || {
            self.last.lock().unwrap().values().filter(|last| **last > now).count() >= expected
        })
        .await;
    }

    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let mut calls = 0;
        for caller in self.callers {
            calls += in_time(caller).await.expect("no caller has panicked");
        }
        calls
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn balancers_change_under_load_without_a_failed_call() {
    let stage = Stage::new();
    let servers = [stage.server("a").await, stage.server("b").await, stage.server("c").await];
    let channel = stage.channel(stage.builder(), 3).await;
    let load = Load::start(&channel, 16);
    let mut forwards_and_back = [ROUND_ROBIN, PICK_FIRST, WEIGHTED, PICK_FIRST].into_iter().cycle();
    for config in forwards_and_back.by_ref().take(24) {
        stage.put_service_config(Some(config)).await;
        until_config(&channel, Some(config)).await;
        let serving = if config == PICK_FIRST { 1 } else { 3 };
        until_ready(&channel, serving).await;
        load.until_served_by(serving).await;
    }
    let calls = load.end().await;
    let answered: u64 = servers.iter().map(|(server, _)| server.calls()).sum();
    assert_eq!(answered, calls as u64, "each call was made once");
    assert_eq!(servers[0].0.accepted(), 1, "what stays connected is not connected anew");
}

#[tokio::test]
async fn the_connected_endpoint_takes_all_calls_while_pick_firsts_first_choice_is_not_connected() {
    let stage = Stage::new();
    let deaf = Deaf::new();
    let _first = stage.sign_in("a", deaf.address.clone(), 1).await;
    let (server, _b) = stage.server("b").await;
    let channel = stage.channel(stage.builder(), 1).await;
    let load = Load::start(&channel, 4);
    for config in [PICK_FIRST, ROUND_ROBIN, PICK_FIRST] {
        stage.put_service_config(Some(config)).await;
        until_config(&channel, Some(config)).await;
        load.until_served_by(1).await;
        assert!(endpoint(&channel, "b").endpoint.state() == callboard::ConnectivityState::Ready);
    }
    assert!(load.end().await > 0);
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn what_does_not_concern_the_balancer_makes_no_picker() {
    let stage = Stage::new();
    let _servers = [stage.server("a").await, stage.server("b").await];
    let favourite = Favourite::of("a");
    let made: Arc<Mutex<Vec<Favourite>>> = Arc::default();
    let keep = Arc::clone(&made);
    let builder = stage.builder().balancer(favourite.clone()).register_balancer("favourite", move |_| {
        let one = Favourite::of("b");
        keep.lock().unwrap().push(one.clone());
        Ok(Arc::new(one))
    });
    let channel = stage.channel(builder, 2).await;
    let by_default = favourite.pickers.load(Ordering::SeqCst);
    let timeout = |seconds: u32| format!(r#""methodConfig": [{{"name": [{{}}], "timeout": "{seconds}s"}}]"#);
    for seconds in [60, 61, 62] {
        let config = format!("{{{}}}", timeout(seconds));
        stage.put_service_config(Some(&config)).await;
        until_config(&channel, Some(&config)).await;
    }
    assert_eq!(favourite.pickers.load(Ordering::SeqCst), by_default);

    for seconds in [60, 61, 62] {
        let config = format!(r#"{{"loadBalancingConfig": [{{"favourite": {{}}}}], {}}}"#, timeout(seconds));
        stage.put_service_config(Some(&config)).await;
        until_config(&channel, Some(&config)).await;
        // Once more, in other words of the registry: the same.
        stage.put_service_config(Some(&config)).await;
    }
    assert_eq!(to_a(&channel, 10).await, 0);
    let made = made.lock().unwrap();
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].pickers.load(Ordering::SeqCst), 1);
}

/// Dies in `connect`, which the channel calls itself.
#[derive(Debug)]
struct Dies;

impl Balancer for Dies {
    fn name(&self) -> &str {
        "dies"
    }

    fn connect(&self, _: &Members) -> Connect {
        panic!("a bug of the balancer's")
    }

    fn picker(&self, ready: &Members) -> Box<dyn Picker> {
        RoundRobin::new().picker(ready)
    }
}

#[tokio::test]
async fn a_balancer_that_panics_later_ends_the_channel_and_calls_say_so() {
    let stage = Stage::new();
    let (_server, _a): (EchoServer, _) = stage.server("a").await;
    let channel = stage.channel(stage.builder().register_balancer("dies", |_| Ok(Arc::new(Dies))), 1).await;
    stage.put_service_config(Some(r#"{"loadBalancingConfig": [{"dies": {}}]}"#)).await;
    until("the channel has ended", || channel.state() == callboard::ConnectivityState::Shutdown).await;
    let status = tokio::time::timeout(PATIENCE, echo(&channel).unary(request())).await.expect("no hang").unwrap_err();
    assert!(status.message().contains("by a panic of its balancer"), "{status}");
}
