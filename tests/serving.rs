//! A server's way in and its way out, with real sockets.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use callboard::{AnnounceSettings, AnnouncementState, Channel, ConnectivityState, ErrorKind, Serve, Shutdown};
use callboard_echo::EchoServer;
use callboard_echo::pb::EchoRequest;
use common::{PATIENCE, Stage, echo, endpoint, in_time, request, slow, until, until_endpoints};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Code;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus as HealthStatus;
use tonic_health::pb::health_client::HealthClient;

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
    let (_other, _announcement) = stage.server("b").await;
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
        .until(async { drop(stopped.await) })
        .start(listener().await, |listener, shutdown| async move {
            let server = EchoServer::start_on("a", listener, |tonic| tonic)?;
            shutdown.await;
            shutting_down();
            server.stop().await;
            io::Result::Ok(())
        })
        .await
        .unwrap();
    let direct = serving.instance().address.to_string();
    let channel = stage.channel(stage.builder(), 2).await;
    let load = Load::start(&channel);
    load.more(200).await;

    let mut state = serving.watch();
    let left = async {
        state.wait_for(|state| matches!(state, AnnouncementState::Left { .. })).await.unwrap();
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
    assert!(begun.elapsed() >= Serve::PROPAGATION_DELAY, "it serves on for the whole delay");
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
        .propagation_delay(Duration::ZERO)
        .until(async { drop(stopped.await) })
        .start(listener().await, |listener, shutdown| serve_echo("a", listener, shutdown))
        .await
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
        .propagation_delay(Duration::ZERO)
        .grace(grace)
        .until(async { drop(stopped.await) })
        .start(listener().await, |listener, shutdown| serve_echo("a", listener, shutdown))
        .await
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

#[tokio::test]
async fn a_tonic_router_tells_its_health_and_what_it_does_not_finish_ends_with_its_runtime() {
    let stage = Stage::new();
    let (stop, stopped) = oneshot::channel();
    let serve = stage
        .serve("a")
        .propagation_delay(Duration::ZERO)
        .grace(Duration::from_millis(200))
        .until(async { drop(stopped.await) });
    let server = std::thread::spawn(move || {
        // It ends with this function, as that of a program does with `main`.
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let (health, service) = tonic_health::server::health_reporter();
            health.set_service_status("", ServingStatus::Serving).await;
            serve
                .not_serving(async move { health.set_service_status("", ServingStatus::NotServing).await })
                .run(listener().await, |listener, shutdown| {
                    let incoming = TcpListenerStream::new(listener);
                    Server::builder().add_service(service).serve_with_incoming_shutdown(incoming, shutdown)
                })
                .await
        })
    });
    let channel = stage.channel(stage.builder(), 1).await;
    let mut client = HealthClient::new(channel.clone());
    let mut health = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let mut said = async || in_time(health.message()).await.map(|answer| answer.unwrap().status());
    assert_eq!(said().await.unwrap(), HealthStatus::Serving);
    stop.send(()).unwrap();
    assert_eq!(said().await.unwrap(), HealthStatus::NotServing);
    // The watch has no end of its own, so that it is a call in flight.
    assert_eq!(said().await.unwrap_err().code(), Code::Unavailable);
    let error = server.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

#[tokio::test(start_paused = true)]
async fn each_step_has_the_bound_that_is_said() {
    for (silent, health_hangs, off_the_board_by) in [(false, false, 0), (true, false, 10), (true, true, 20)] {
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
            .until(async { drop(stopped.await) })
            .start(listener().await, |listener, shutdown| async move {
                let _listener = listener;
                shutdown.await;
                tell.send(Instant::now()).unwrap();
                std::future::pending::<io::Result<()>>().await
            })
            .await
            .unwrap();
        on_board(&serving).await;
        stage.board.faults(|faults| faults.hang = silent);
        let begun = Instant::now();
        stop.send(()).unwrap();
        let error = serving.ended().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        let steps = [shut_down_at.await.unwrap() - begun, begun.elapsed()].map(|step| step.as_secs_f64().round());
        assert_eq!(steps, [off_the_board_by + 3, off_the_board_by + 3 + 30].map(f64::from));
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
        .await
        .unwrap();
    on_board(&serving).await;
    (serving, now)
}

async fn on_board(serving: &callboard::Serving) {
    let mut state = serving.watch();
    in_time(state.wait_for(|state| matches!(state, AnnouncementState::OnBoard { .. }))).await.unwrap();
}

fn has_left(serving: &callboard::Serving) -> bool {
    matches!(serving.state(), AnnouncementState::Left { error: None, .. })
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
    let mut quick = AnnounceSettings::default();
    quick.attempt_timeout = Duration::from_millis(100);
    let serving = stage
        .serve("a")
        .announcing(quick)
        .propagation_delay(Duration::ZERO)
        .until(async { drop(stopped.await) })
        .start(listener().await, |listener, shutdown| serve_echo("a", listener, shutdown))
        .await
        .unwrap();
    on_board(&serving).await;
    stage.board.faults(|faults| faults.hang = true);
    stop.send(()).unwrap();
    in_time(serving.ended()).await.unwrap();
    assert!(matches!(serving.state(), AnnouncementState::Left { error: Some(_), .. }), "{:?}", serving.state());
}

#[tokio::test]
async fn a_server_whose_id_is_taken_drains_and_says_so() {
    let stage = Stage::new();
    let serving = stage
        .serve("a")
        .propagation_delay(Duration::ZERO)
        .start(listener().await, |listener, shutdown| serve_echo("a", listener, shutdown))
        .await
        .unwrap();
    on_board(&serving).await;
    let (_newer, _announcement) = stage.server("a").await;
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
        .instance(|instance| instance.weight(3))
        .instance(|mut instance| {
            instance.id = "b".to_owned();
            instance.zone("eu-1")
        })
        .start(listener().await, |listener, shutdown| serve_echo("a", listener, shutdown))
        .await
        .unwrap();
    let channel = stage.channel(stage.builder(), 1).await;
    let seen = || endpoint(&channel, "a").endpoint.instance().clone();
    assert_eq!((seen().weight, seen().zone.as_deref()), (3, Some("eu-1")));
    serving.update(|instance| instance.weight = 7);
    until("the weight is the new one", || seen().weight == 7).await;
    assert_eq!(endpoint(&channel, "a").endpoint.state(), ConnectivityState::Ready);
}

#[tokio::test]
async fn dropping_the_wait_ends_the_server_and_leaves() {
    let stage = Stage::new();
    let serving = stage
        .serve("a")
        .start(listener().await, |listener, shutdown| serve_echo("a", listener, shutdown))
        .await
        .unwrap();
    on_board(&serving).await;
    let waited = tokio::time::timeout(Duration::from_millis(10), serving.ended()).await;
    assert!(waited.is_err(), "nobody has asked it to stop");
    until("it has left", || has_left(&serving)).await;
    let address = serving.instance().address.to_string();
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
    let anywhere = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = anywhere.local_addr().unwrap().port();
    let mut started = false;
    let outcome = stage
        .serve("a")
        .start(anywhere, |listener, shutdown| {
            started = true;
            serve_echo("a", listener, shutdown)
        })
        .await;
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error.to_string().contains(&port.to_string()) && error.to_string().contains("CALLBOARD_ADVERTISE"),
        "{error}"
    );
    assert!(!started);
}
