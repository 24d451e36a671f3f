//! A server's way in and its way out, with real sockets.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use callboard::{
    Address, Channel, ConnectivityState, ErrorKind, RegistrationSettings, RegistrationState, Serve, Shutdown,
};
use callboard_echo::EchoServer;
use callboard_echo::pb::EchoRequest;
use common::{PATIENCE, Stage, echo, endpoint, in_time, request, slow, until, until_endpoints};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Code;

/// What happened, in order.
type Log = Arc<std::sync::Mutex<Vec<&'static str>>>;

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// An echo server, as people would serve with a server of theirs.
async fn serve_echo(id: &'static str, listener: TcpListener, shutdown: Shutdown) -> io::Result<()> {
    let server = EchoServer::start_on(id, listener, |tonic| tonic)?;
    shutdown.await;
    server.stop().await;
    Ok(())
}

impl Stage {
    /// Without signals: they would reach all tests of this process.
    fn serve(&self, id: &str) -> Serve {
        Serve::new(Arc::new(self.board.clone()), self.service.clone()).id(id).signals(false)
    }
}

/// 32 callers, half of them of streams, until they are told to stop.
struct Load {
    over: Arc<AtomicBool>,
    made: Arc<AtomicU64>,
    callers: JoinSet<()>,
}

impl Load {
    fn start(channel: &Channel) -> Self {
        let (over, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let callers = (0..32).map(|number| {
            let (mut client, over, made) = (echo(channel), Arc::clone(&over), Arc::clone(&made));
            async move {
                while !over.load(Ordering::SeqCst) {
                    if number % 2 == 0 {
                        client.unary(slow(1)).await.unwrap();
                    } else {
                        let three = EchoRequest { repeat: 3, ..slow(1) };
                        let mut answers = client.server_streaming(three).await.unwrap().into_inner();
                        for _ in 0..3 {
                            assert!(answers.message().await.unwrap().is_some());
                        }
                        assert!(answers.message().await.unwrap().is_none());
                    }
                    made.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        Self { callers: callers.collect(), over, made }
    }

    /// Waits for so many more calls.
    async fn more(&self, calls: u64) {
        let wanted = self.made.load(Ordering::SeqCst) + calls;
        until("more calls are made", || self.made.load(Ordering::SeqCst) >= wanted).await;
    }

    /// Fails if a call has failed.
    async fn finish(self) -> u64 {
        self.over.store(true, Ordering::SeqCst);
        self.callers.join_all().await;
        self.made.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_server_that_stops_under_load_loses_no_call_and_goes_step_by_step() {
    let stage = Stage::new();
    let (_other, _registration) = stage.server("b").await;
    let log = Log::default();
    let (stop, stopped) = oneshot::channel();
    let noted = |log: &Log, what| {
        let log = Arc::clone(log);
        move || log.lock().unwrap().push(what)
    };
    let (health, shutting_down) = (noted(&log, "health"), noted(&log, "shutdown"));
    let serving = stage
        .serve("a")
        .not_serving(async move { health() })
        .shutdown_signal(async { drop(stopped.await) })
        .start(listener().await, |listener, shutdown| async move {
            let server = EchoServer::start_on("a", listener, |tonic| tonic)?;
            shutdown.await;
            shutting_down();
            server.stop().await;
            io::Result::Ok(())
        })
        .unwrap();
    let direct = serving.instance().expect("it is bound there").address().to_string();
    let channel = stage.channel(stage.builder(), 2).await;
    let load = Load::start(&channel);
    load.more(200).await;

    let mut state = serving.watch_state();
    let left = async {
        state.wait_for(|state| matches!(state, RegistrationState::Deregistered { .. })).await.unwrap();
        log.lock().unwrap().push("left");
        until_endpoints(&channel, &["b"]).await;
        // Who has not heard of it yet is still served, over a new connection too.
        let late = tonic::transport::Endpoint::new(format!("http://{direct}")).unwrap().connect().await.unwrap();
        let answer = callboard_echo::client(late).unary(request()).await.unwrap();
        assert_eq!(answer.into_inner().server, "a");
        log.lock().unwrap().push("still answers");
    };
    let begun = Instant::now();
    stop.send(()).unwrap();
    let (ended, ()) = in_time(async { tokio::join!(serving.ended(), left) }).await;
    ended.unwrap();
    assert!(begun.elapsed() >= Serve::DEREGISTER_DELAY, "it serves on for the whole delay");
    assert_eq!(*log.lock().unwrap(), ["health", "left", "still answers", "shutdown"]);
    load.more(200).await;
    println!("{} calls, 0 failed", load.finish().await);
    TcpListener::bind(&direct).await.expect("the address is free again");
}

#[tokio::test]
async fn the_calls_in_flight_are_waited_for() {
    let stage = Stage::new();
    let (stop, stopped) = oneshot::channel();
    let serving = stage
        .serve("a")
        .deregister_delay(Duration::ZERO)
        .shutdown_signal(async { drop(stopped.await) })
        .start(listener().await, |listener, shutdown| serve_echo("a", listener, shutdown))
        .unwrap();
    let channel = stage.channel(stage.builder(), 1).await;
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.unary(slow(500)).await });
    until("it is in flight", || endpoint(&channel, "a").endpoint.in_flight() == 1).await;
    stop.send(()).unwrap();
    in_time(serving.ended()).await.unwrap();
    assert_eq!(in_time(call).await.unwrap().unwrap().into_inner().server, "a");
}

#[tokio::test]
async fn a_call_that_takes_longer_than_the_grace_is_cut() {
    let stage = Stage::new();
    let (stop, stopped) = oneshot::channel();
    let grace = Duration::from_millis(200);
    let serving = stage
        .serve("a")
        .deregister_delay(Duration::ZERO)
        .drain_timeout(grace)
        .shutdown_signal(async { drop(stopped.await) })
        .start(listener().await, |listener, shutdown| serve_echo("a", listener, shutdown))
        .unwrap();
    let channel = stage.channel(stage.builder(), 1).await;
    let mut client = echo(&channel);
    let call = tokio::spawn(async move { client.unary(slow(600_000)).await });
    until("it is in flight", || endpoint(&channel, "a").endpoint.in_flight() == 1).await;
    let begun = Instant::now();
    stop.send(()).unwrap();
    let error = in_time(serving.ended()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("200ms"), "{error}");
    assert!(begun.elapsed() >= grace);
    assert_eq!(in_time(call).await.unwrap().unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn each_step_has_the_bound_that_is_said() {
    for (silent, health_hangs, goes_on_after) in
        [(false, false, 0), (false, true, 1), (true, false, 5), (true, true, 5)]
    {
        let stage = Stage::new();
        let (stop, stopped) = oneshot::channel();
        let (tell, shut_down_at) = oneshot::channel();
        let health = async move {
            if health_hangs {
                std::future::pending::<()>().await;
            }
        };
        let serving = stage
            .serve("a")
            .not_serving(health)
            .shutdown_signal(async { drop(stopped.await) })
            .start(listener().await, |listener, shutdown| async move {
                let _listener = listener;
                shutdown.await;
                tell.send(Instant::now()).unwrap();
                std::future::pending::<io::Result<()>>().await
            })
            .unwrap();
        on_board(&serving).await;
        stage.board.faults(|faults| faults.hang = silent);
        let begun = Instant::now();
        stop.send(()).unwrap();
        let error = serving.ended().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        let steps = [shut_down_at.await.unwrap() - begun, begun.elapsed()].map(|step| step.as_secs_f64().round());
        assert_eq!(steps, [goes_on_after + 3, goes_on_after + 3 + 20].map(f64::from));
        assert!(begun.elapsed() < Duration::from_secs(30), "Kubernetes waits no longer");
    }
}

/// Starts a server that fails when told, and waits until it is on the board.
async fn failing(stage: &Stage, fail: fn() -> io::Result<()>) -> (callboard::Serving, oneshot::Sender<()>) {
    let (now, told) = oneshot::channel::<()>();
    let serving = stage
        .serve("a")
        .start(listener().await, |listener, _shutdown| async move {
            let _listener = listener;
            let _ = told.await;
            fail()
        })
        .unwrap();
    on_board(&serving).await;
    (serving, now)
}

async fn on_board(serving: &callboard::Serving) {
    let mut state = serving.watch_state();
    in_time(state.wait_for(|state| matches!(state, RegistrationState::Registered { .. }))).await.unwrap();
}

fn has_left(serving: &callboard::Serving) -> bool {
    matches!(serving.state(), RegistrationState::Deregistered { error: None, .. })
}

#[tokio::test]
async fn a_server_that_fails_leaves_the_board() {
    let stage = Stage::new();
    let (serving, fail) = failing(&stage, || Err(io::Error::other("too many open files"))).await;
    fail.send(()).unwrap();
    let error = in_time(serving.ended()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(error.chain().contains("too many open files"), "{}", error.chain());
    assert!(has_left(&serving), "{:?}", serving.state());
    assert_eq!(in_time(serving.ended()).await.unwrap_err().kind(), ErrorKind::Closed, "it has ended once");
}

#[tokio::test]
async fn a_server_that_panics_leaves_the_board_before_the_panic_goes_on() {
    let stage = Stage::new();
    let (serving, fail) = failing(&stage, || panic!("a bug")).await;
    let serving = Arc::new(serving);
    let waiting = tokio::spawn({
        let serving = Arc::clone(&serving);
        async move { serving.ended().await }
    });
    fail.send(()).unwrap();
    let panic = in_time(waiting).await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"a bug"));
    assert!(has_left(&serving), "{:?}", serving.state());
}

#[tokio::test]
async fn a_registry_that_is_down_does_not_hold_up_the_end() {
    let stage = Stage::new();
    let (stop, stopped) = oneshot::channel();
    let mut quick = RegistrationSettings::default();
    quick.attempt_timeout = Duration::from_millis(100);
    let serving = stage
        .serve("a")
        .registration(quick)
        .deregister_delay(Duration::ZERO)
        .shutdown_signal(async { drop(stopped.await) })
        .start(listener().await, |listener, shutdown| serve_echo("a", listener, shutdown))
        .unwrap();
    on_board(&serving).await;
    stage.board.faults(|faults| faults.hang = true);
    stop.send(()).unwrap();
    in_time(serving.ended()).await.unwrap();
    assert!(matches!(serving.state(), RegistrationState::Deregistered { error: Some(_), .. }), "{:?}", serving.state());
}

#[tokio::test]
async fn a_server_whose_id_is_taken_serves_on_and_waits_for_it() {
    let stage = Stage::new();
    let (stop, stopped) = oneshot::channel();
    let serving = stage
        .serve("a")
        .deregister_delay(Duration::ZERO)
        .shutdown_signal(async { drop(stopped.await) })
        .start(listener().await, |listener, shutdown| serve_echo("a", listener, shutdown))
        .unwrap();
    on_board(&serving).await;
    let own = serving.instance().expect("it is bound there").address().to_string();
    let (newer, registration) = stage.server("a").await;
    let mut state = serving.watch_state();
    let conflict = |state: &RegistrationState| matches!(state, RegistrationState::Lost { error, .. } if error.kind() == ErrorKind::Conflict);
    let lost = in_time(state.wait_for(conflict)).await.unwrap().clone();
    assert!(format!("{lost:?}").contains(&newer.address().to_string()), "it says whose the id is: {lost:?}");
    let direct = tonic::transport::Endpoint::new(format!("http://{own}")).unwrap().connect().await.unwrap();
    callboard_echo::client(direct).unary(request()).await.expect("it serves on");
    // The other goes, and it has its id again.
    registration.deregister().await.unwrap();
    on_board(&serving).await;
    stop.send(()).unwrap();
    in_time(serving.ended()).await.unwrap();
}

/// Replicas behind one advertised address have one id. Neither that, nor a record that claims it for ever, ends any of them.
#[tokio::test]
async fn replicas_of_one_address_serve_on_whoever_claims_it() {
    let (stage, shared): (_, Address) = (Stage::new(), "10.9.9.9:50051".parse().unwrap());
    let (stop, _) = tokio::sync::watch::channel(());
    let mut replicas = Vec::new();
    for _ in 0..3 {
        let (listener, mut stopped) = (listener().await, stop.subscribe());
        let at = listener.local_addr().unwrap();
        let serving = Serve::new(Arc::new(stage.board.clone()), stage.service.clone())
            .signals(false)
            .advertise(shared.clone())
            // As of a process of its own.
            .instance(|instance| instance.with_incarnation(callboard::Incarnation::fresh()))
            .deregister_delay(Duration::ZERO)
            .shutdown_signal(async move { drop(stopped.changed().await) })
            .start(listener, |listener, shutdown| serve_echo("a", listener, shutdown))
            .unwrap();
        on_board(&serving).await;
        replicas.push((at, serving));
    }
    let is_on_board = |state: &RegistrationState| matches!(state, RegistrationState::Registered { .. });
    let mut holder = replicas[2].1.watch_state();
    let forged = format!(r#"{{"v":1,"id":"{shared}","address":"10.9.9.8:1","incarnation":{}}}"#, u64::MAX);
    stage.board.put(&stage.service, &shared.to_string(), Some(forged.as_bytes()));
    in_time(holder.wait_for(|state| !is_on_board(state))).await.unwrap();
    let mut states: Vec<_> = replicas.iter().map(|(_, serving)| serving.watch_state()).collect();
    let back = states.iter_mut().map(|state| Box::pin(state.wait_for(is_on_board)));
    assert!(in_time(futures_util::future::select_all(back)).await.0.is_ok(), "one of them has the place again");
    for (at, serving) in &replicas {
        assert!(!matches!(serving.state(), RegistrationState::Deregistered { .. }), "{:?}", serving.state());
        let direct = tonic::transport::Endpoint::new(format!("http://{at}")).unwrap().connect().await.unwrap();
        callboard_echo::client(direct).unary(request()).await.expect("it serves on");
    }
    stop.send(()).unwrap();
    for (_, serving) in replicas {
        in_time(serving.ended()).await.unwrap();
    }
}

#[tokio::test]
async fn a_server_whose_id_is_taken_for_too_long_drains_and_says_so() {
    let stage = Stage::new();
    let mut impatient = RegistrationSettings::default();
    impatient.conflict_timeout = Some(Duration::ZERO);
    let serving = stage
        .serve("a")
        .registration(impatient)
        .deregister_delay(Duration::ZERO)
        .start(listener().await, |listener, shutdown| serve_echo("a", listener, shutdown))
        .unwrap();
    on_board(&serving).await;
    let (_newer, _registration) = stage.server("a").await;
    let error = in_time(serving.ended()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    // What is on the board is not its to remove.
    let channel = stage.channel(stage.builder(), 1).await;
    echo(&channel).unary(request()).await.unwrap();
}

#[tokio::test]
async fn weight_zone_and_metadata_change_in_place() {
    let stage = Stage::new();
    let serving = stage
        .serve("a")
        .instance(|instance| instance.with_weight(3))
        .instance(|instance| instance.with_id("b").unwrap().with_zone("eu-1"))
        .start(listener().await, |listener, shutdown| serve_echo("a", listener, shutdown))
        .unwrap();
    let channel = stage.channel(stage.builder(), 1).await;
    let seen = || endpoint(&channel, "a").endpoint.instance().clone();
    assert_eq!((seen().weight(), seen().zone()), (3, Some("eu-1")));
    serving.update(|instance| instance.set_weight(7));
    until("the weight is the new one", || seen().weight() == 7).await;
    assert_eq!(endpoint(&channel, "a").endpoint.state(), ConnectivityState::Ready);
}

#[tokio::test]
async fn dropping_the_wait_ends_the_server_and_leaves() {
    let stage = Stage::new();
    let serving =
        stage.serve("a").start(listener().await, |listener, shutdown| serve_echo("a", listener, shutdown)).unwrap();
    on_board(&serving).await;
    let waited = tokio::time::timeout(Duration::from_millis(10), serving.ended()).await;
    assert!(waited.is_err(), "nobody has asked it to stop");
    until("it has left", || has_left(&serving)).await;
    let address = serving.instance().expect("it is bound there").address().to_string();
    let bound = async {
        while TcpListener::bind(&address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, bound).await.expect("its listener is closed");
}

#[tokio::test]
async fn it_does_not_start_with_an_address_that_nobody_can_reach() {
    let stage = Stage::new();
    for (serve, part) in [
        (stage.serve("a"), "CALLBOARD_ADVERTISE"),
        (stage.serve("a").registry_hosts(["127.0.0.1:2379", "localhost"]), "loopback"),
        (stage.serve("a").registry_hosts(["0x0:2379", "no host"]), "CALLBOARD_ADVERTISE"),
    ] {
        let anywhere = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let mut started = false;
        let outcome = serve.start(anywhere, |listener, shutdown| {
            started = true;
            serve_echo("a", listener, shutdown)
        });
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(part), "no {part} in {error}");
        assert!(!started);
    }
}

#[tokio::test]
async fn a_server_whose_registry_s_name_is_not_known_yet_serves_and_says_why_it_is_not_announced() {
    let stage = Stage::new();
    let (stop, stopped) = oneshot::channel();
    let anywhere = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = anywhere.local_addr().unwrap().port();
    let serving = stage
        .serve("a")
        .registry_hosts(["registry.invalid:2379"])
        .shutdown_signal(async { drop(stopped.await) })
        .deregister_delay(Duration::ZERO)
        .start(anywhere, |listener, shutdown| serve_echo("a", listener, shutdown))
        .unwrap();
    let direct = tonic::transport::Endpoint::new(format!("http://127.0.0.1:{port}")).unwrap().connect().await.unwrap();
    callboard_echo::client(direct).unary(request()).await.expect("it serves");
    let mut state = serving.watch_state();
    let twice = |state: &RegistrationState| matches!(state, RegistrationState::Registering { failures: 2.., .. });
    let said = format!("{:?}", *in_time(state.wait_for(twice)).await.unwrap());
    for part in ["Unavailable", "registry.invalid", "CALLBOARD_ADVERTISE", "project/test"] {
        assert!(said.contains(part), "no {part} in {said}");
    }
    assert!(serving.instance().is_none());
    stop.send(()).unwrap();
    in_time(serving.ended()).await.unwrap();
}
