//! What a picker of the user's own sees, what it can say, and what it is told.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use callboard::{Address, Balancer, Call, Code, Endpoint, Instance, Member, Members, Outcome, Pick, Picker, Status};
use callboard_echo::pb::EchoRequest;
use common::refusing::{Policy, QUICK, Refusing, unavailable};
use common::scripted::Scripted;
use common::{Stage, echo, endpoint, in_time, request, slow, until, within};

type Rule = dyn Fn(&Members, &Call<'_>) -> Pick + Send + Sync;

/// A balancer whose pickers do what a closure says, and that keeps what they are told.
#[derive(Clone)]
struct Custom {
    rule: Arc<Rule>,
    told: Arc<Mutex<Vec<(String, Outcome)>>>,
}

impl Custom {
    fn new(rule: impl Fn(&Members, &Call<'_>) -> Pick + Send + Sync + 'static) -> Self {
        Self { rule: Arc::new(rule), told: Arc::default() }
    }

    fn first() -> Self {
        Self::new(|members, _| Pick::To(members.ready()[0]))
    }

    /// Whom the pickers were told of, and how the calls went.
    fn told(&self) -> Vec<(String, Code)> {
        self.told.lock().unwrap().iter().map(|(id, outcome)| (id.clone(), outcome.code)).collect()
    }

    async fn until_told(&self, count: usize) {
        until("the picker was told", || self.told().len() >= count).await;
    }
}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Custom")
    }
}

impl Balancer for Custom {
    fn name(&self) -> &str {
        "custom"
    }

    fn picker(&self, members: &Members) -> Box<dyn Picker> {
        assert!(!members.ready().is_empty());
        Box::new(CustomPicker { members: members.clone(), balancer: self.clone() })
    }
}

#[derive(Debug)]
struct CustomPicker {
    members: Members,
    balancer: Custom,
}

impl Picker for CustomPicker {
    fn pick(&self, call: &Call<'_>) -> Pick {
        (self.balancer.rule)(&self.members, call)
    }

    fn done(&self, picked: Member, outcome: &Outcome) {
        let id = self.members[picked].instance().id().to_owned();
        self.balancer.told.lock().unwrap().push((id, outcome.clone()));
    }
}

fn named(members: &Members, id: &str) -> Pick {
    let named = members.ready().iter().find(|member| members[**member].instance().id() == id);
    named.map_or(Pick::Wait, |member| Pick::To(*member))
}

#[tokio::test]
async fn a_picker_sees_path_metadata_and_the_callers_own_values() {
    #[derive(Clone)]
    struct Tenant(&'static str);
    let stage = Stage::new();
    let _servers = [stage.server("a").await, stage.server("b").await, stage.server("c").await];
    let balancer = Custom::new(|ready, call| {
        assert_eq!(call.path(), "/callboard.echo.v1.Echo/Unary");
        let by_header = call.headers().get("x-server").map(|value| value.to_str().unwrap());
        let by_value = call.extension::<Tenant>().map(|tenant| tenant.0);
        named(ready, by_header.or(by_value).unwrap_or("a"))
    });
    let channel = stage.channel(stage.builder().balancer(balancer), 3).await;
    let mut client = echo(&channel);
    let mut by_header = tonic::Request::new(request());
    by_header.metadata_mut().insert("x-server", "b".parse().unwrap());
    let mut by_value = tonic::Request::new(request());
    by_value.extensions_mut().insert(Tenant("c"));
    for (request, server) in [(by_header, "b"), (by_value, "c"), (tonic::Request::new(request()), "a")] {
        assert_eq!(client.unary(request).await.unwrap().into_inner().server, server);
    }
}

#[tokio::test]
async fn a_picker_that_reads_the_live_figures_can_choose_the_least_busy() {
    let stage = Stage::new();
    let (a, _a) = stage.server("a").await;
    let (b, _b) = stage.server("b").await;
    let balancer = Custom::new(|members, _| {
        let least = members.ready().iter().min_by_key(|member| members[**member].in_flight());
        Pick::To(*least.expect("at least one"))
    });
    let channel = stage.channel(stage.builder().balancer(balancer), 2).await;
    let calls: Vec<_> = (0..6)
        .map(|_| {
            let mut client = echo(&channel);
            tokio::spawn(async move { client.unary(slow(15_000)).await })
        })
        .collect();
    until("the calls have arrived", || a.in_flight() + b.in_flight() == 6).await;
    assert_eq!((a.in_flight(), b.in_flight()), (3, 3));
    assert_eq!(endpoint(&channel, "a").endpoint.in_flight(), 3);
    for call in &calls {
        call.abort();
    }
    until("they are cancelled", || endpoint(&channel, "a").endpoint.in_flight() == 0).await;
    assert_eq!(endpoint(&channel, "a").endpoint.latency(), None, "a cancelled call says nothing about latency");
}

#[tokio::test]
async fn a_picker_sees_how_long_calls_take() {
    let stage = Stage::new();
    let (_server, _registration) = stage.server("a").await;
    let channel = stage.channel(stage.builder(), 1).await;
    echo(&channel).unary(slow(100)).await.unwrap();
    let latency = endpoint(&channel, "a").endpoint.latency().expect("a call has ended");
    assert!(latency >= Duration::from_millis(100) && latency < Duration::from_secs(5), "{latency:?}");
}

#[tokio::test]
async fn a_call_that_is_told_to_wait_is_picked_for_again_when_the_endpoints_change() {
    let stage = Stage::new();
    let (_a, _a2) = stage.server("a").await;
    let balancer = Custom::new(|ready, _| named(ready, "b"));
    let channel = stage.channel(stage.builder().balancer(balancer), 1).await;
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.unary(request()).await });
    let status = echo(&channel).unary(within(Duration::from_millis(100), request())).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    assert!(status.message().contains("a pick of the balancer \"custom\""), "{status:?}");
    assert!(!call.is_finished());
    let (_b, _b2) = stage.server("b").await;
    assert_eq!(in_time(call).await.unwrap().unwrap().into_inner().server, "b");
}

/// Fails or drops calls as long as there is one endpoint.
fn alone(verdict: Pick) -> Custom {
    Custom::new(move |members, _| members.ready().get(1).map_or_else(|| verdict.clone(), |member| Pick::To(*member)))
}

#[tokio::test]
async fn a_call_that_the_picker_fails_has_its_status_unless_it_waits() {
    let stage = Stage::new();
    let (a, _a) = stage.server("a").await;
    let balancer = alone(Pick::Fail(Status::new(Code::ResourceExhausted, "not today")));
    let channel = stage.channel(stage.builder().balancer(balancer.clone()), 1).await;
    let status = echo(&channel).unary(request()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::ResourceExhausted, "not today"));
    let mut client = echo(&channel);
    let waits = tokio::spawn(async move { client.unary(common::waiting(request())).await });
    tokio::task::yield_now().await;
    assert!(!waits.is_finished());
    let (_b, _b2) = stage.server("b").await;
    assert_eq!(in_time(waits).await.unwrap().unwrap().into_inner().server, "b");
    assert_eq!(a.calls(), 0);
    assert_eq!(balancer.told(), [("b".to_owned(), Code::Ok)], "it is told of calls that were sent, and of no other");
}

#[tokio::test]
async fn a_call_that_the_picker_drops_fails_even_if_it_would_wait() {
    let stage = Stage::new();
    let (_a, _a2) = stage.server("a").await;
    let balancer = alone(Pick::Drop(Status::unavailable("shed")));
    let channel = stage.channel(stage.builder().balancer(balancer), 1).await;
    let status = in_time(echo(&channel).unary(common::waiting(request()))).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::Unavailable, "shed"));
}

#[tokio::test]
async fn a_picker_cannot_answer_in_the_servers_name() {
    let stage = Stage::new();
    let (_a, _a2) = stage.server("a").await;
    for code in [Code::Ok, Code::NotFound, Code::InvalidArgument] {
        let balancer = alone(Pick::Drop(Status::new(code, "made up")));
        let channel = stage.channel(stage.builder().balancer(balancer), 1).await;
        let status = echo(&channel).unary(request()).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Internal);
        assert!(status.message().contains("made up"), "{status:?}");
    }
}

#[tokio::test]
async fn a_member_of_another_set_is_an_internal_error() {
    let stage = Stage::new();
    let (_a, _a2) = stage.server("a").await;
    let other = |port| Endpoint::new(Instance::at(Address::tcp("127.0.0.1", port).unwrap()).unwrap());
    let others = Members::new((1..=8).map(other).collect::<Vec<_>>());
    let balancer = Custom::new(move |_, _| Pick::To(others.iter().last().unwrap()));
    let channel = stage.channel(stage.builder().balancer(balancer), 1).await;
    let status = in_time(echo(&channel).unary(common::waiting(request()))).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Internal);
    assert!(status.message().contains("a member of another set"), "{status:?}");
}

#[tokio::test]
async fn a_picker_is_told_once_of_each_call_that_succeeds() {
    let stage = Stage::new();
    let (_a, _a2) = stage.server("a").await;
    let balancer = Custom::first();
    let channel = stage.channel(stage.builder().balancer(balancer.clone()), 1).await;
    let mut client = echo(&channel);
    client.unary(slow(50)).await.unwrap();
    let mut answers = client.server_streaming(EchoRequest { repeat: 3, ..request() }).await.unwrap().into_inner();
    assert_eq!(balancer.told().len(), 1, "a stream that goes on has not ended");
    while answers.message().await.unwrap().is_some() {}
    client.client_streaming(tokio_stream::iter(vec![request(); 3])).await.unwrap();
    balancer.until_told(3).await;
    assert_eq!(balancer.told(), vec![("a".to_owned(), Code::Ok); 3]);
    let latency = balancer.told.lock().unwrap()[0].1.latency;
    assert!(latency >= Duration::from_millis(50), "{latency:?}");
}

#[tokio::test]
async fn a_picker_is_told_the_status_that_the_server_gave() {
    let stage = Stage::new();
    let server = Scripted::start(|_| Err(tonic::Status::failed_precondition("no"))).await;
    let _registration = stage.sign_in("a", server.address.try_into().unwrap(), 1).await;
    let balancer = Custom::first();
    let channel = stage.channel(stage.builder().balancer(balancer.clone()), 1).await;
    let status = echo(&channel).unary(request()).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (tonic::Code::FailedPrecondition, "no"));
    assert_eq!(balancer.told(), [("a".to_owned(), Code::FailedPrecondition)]);
}

#[tokio::test]
async fn a_picker_is_told_of_a_call_that_was_cancelled() {
    let stage = Stage::new();
    let (a, _a) = stage.server("a").await;
    let balancer = Custom::first();
    let channel = stage.channel(stage.builder().balancer(balancer.clone()), 1).await;
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.unary(slow(15_000)).await });
    until("it has arrived", || a.in_flight() == 1).await;
    assert_eq!(balancer.told(), []);
    call.abort();
    balancer.until_told(1).await;
    assert_eq!(balancer.told(), [("a".to_owned(), Code::Cancelled)]);
}

#[tokio::test]
async fn a_picker_is_told_of_a_call_that_ran_out_of_time() {
    let stage = Stage::new();
    let (_a, _a2) = stage.server("a").await;
    let balancer = Custom::first();
    let channel = stage.channel(stage.builder().balancer(balancer.clone()), 1).await;
    let timeout = Duration::from_millis(100);
    echo(&channel).unary(within(timeout, slow(15_000))).await.unwrap_err();
    balancer.until_told(1).await;
    let stream = EchoRequest { repeat: 1, ..slow(15_000) };
    let mut answers = echo(&channel).server_streaming(within(timeout, stream)).await.unwrap().into_inner();
    answers.message().await.unwrap_err();
    balancer.until_told(2).await;
    assert_eq!(balancer.told(), vec![("a".to_owned(), Code::DeadlineExceeded); 2]);
}

#[tokio::test]
async fn a_picker_is_told_of_a_call_whose_connection_was_lost() {
    let stage = Stage::new();
    let (a, _a) = stage.server("a").await;
    let balancer = Custom::first();
    let channel = stage.channel(stage.builder().balancer(balancer.clone()), 1).await;
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.unary(slow(15_000)).await });
    until("it has arrived", || a.in_flight() == 1).await;
    a.kill().await;
    assert_eq!(in_time(call).await.unwrap().unwrap_err().code(), tonic::Code::Unavailable);
    balancer.until_told(1).await;
    assert_eq!(balancer.told(), [("a".to_owned(), Code::Unavailable)]);
}

#[tokio::test]
async fn a_status_of_the_picker_is_not_retried_whatever_the_policy_lists() {
    for drop in [false, true] {
        let stage = Stage::new();
        let (server, _registration) = stage.server("a").await;
        let picks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&picks);
        let balancer = Custom::new(move |_, _| {
            counted.fetch_add(1, Ordering::SeqCst);
            let status = Status::unavailable("no");
            if drop { Pick::Drop(status) } else { Pick::Fail(status) }
        });
        let channel = stage.channel(stage.under(&QUICK).await.balancer(balancer), 1).await;
        let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (tonic::Code::Unavailable, "no"));
        assert_eq!((picks.load(Ordering::SeqCst), server.calls()), (1, 0));
    }
}

#[tokio::test]
async fn a_picker_is_asked_for_each_attempt_and_told_how_it_went() {
    let stage = Stage::new();
    let server = Refusing::start(&stage, "a", [tonic::Status::aborted("no"), unavailable()]).await;
    let (balancer, policy) = (Custom::first(), Policy { codes: &["ABORTED", "UNAVAILABLE"], ..QUICK });
    let channel = stage.channel(stage.under(&policy).await.balancer(balancer.clone()), 1).await;
    in_time(echo(&channel).unary(request())).await.unwrap();
    balancer.until_told(3).await;
    let told = [Code::Aborted, Code::Unavailable, Code::Ok].map(|code| ("a".to_owned(), code));
    assert_eq!((balancer.told().as_slice(), server.attempts().len()), (&told[..], 3));
}
