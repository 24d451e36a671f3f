//! Settings that are a length of time take any: 0, a nanosecond, the longest there is. Nothing panics, and no channel dies.

// What the tests share fails them, as they do themselves.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use callboard::balancer::{PickFirst, WeightedRoundRobin, WeightedRoundRobinSettings};
use callboard::load::{LoadRecorder, LoadReportServer};
use callboard::{
    Backoff, BoxError, ChannelBuilder, Error, ErrorKind, Incarnation, Instance, Keepalive, RegistrationSettings,
    RegistrationState, WatchSettings, register,
};
use callboard_raw::Peer;
use common::{PATIENCE, Stage, echo, endpoint, in_time, request, until, waiting};
use tonic::Code;

const EXTREMES: [Duration; 3] = [Duration::ZERO, Duration::from_nanos(1), Duration::MAX];

type Configure = fn(ChannelBuilder, Duration) -> ChannelBuilder;

/// What none of them may say.
fn assert_alive(what: &str, message: &str) {
    for fault in ["panicked", "has ended", "gone"] {
        assert!(!message.contains(fault), "{what}: {message}");
    }
}

fn watch(change: impl FnOnce(&mut WatchSettings)) -> WatchSettings {
    let mut settings = WatchSettings::default();
    change(&mut settings);
    settings
}

/// Each setting of a channel. Those of the first list let calls through whatever they are.
const HARMLESS: [(&str, Configure); 10] = [
    ("keepalive", |builder, time| builder.keepalive(Keepalive::every(time).while_idle(true))),
    ("keepalive's timeout", |builder, time| {
        builder.keepalive(Keepalive::every(Duration::from_secs(1)).while_idle(true).timeout(time))
    }),
    ("empty_grace", |builder, time| builder.watch_settings(watch(|settings| settings.empty_grace = time))),
    ("coalesce", |builder, time| builder.watch_settings(watch(|settings| settings.coalesce = time))),
    ("first_snapshot", |builder, time| builder.watch_settings(watch(|settings| settings.first_snapshot = time))),
    ("attempt_delay", |builder, time| builder.balancer(PickFirst::new().attempt_delay(time))),
    ("oob_reporting_period", |builder, time| weighted(builder, |settings| settings.oob_reporting_period = time)),
    ("blackout_period", |builder, time| weighted(builder, |settings| settings.blackout_period = time)),
    ("weight_expiration_period", |builder, time| {
        weighted(builder, |settings| settings.weight_expiration_period = time)
    }),
    ("weight_update_period", |builder, time| weighted(builder, |settings| settings.weight_update_period = time)),
];
/// Those of the second list may leave no time for a call.
const BOUNDS: [(&str, Configure); 4] = [
    ("connect_timeout", |builder, time| builder.connect_timeout(time)),
    ("timeout", |builder, time| builder.timeout(time)),
    ("fallback_timeout", |builder, time| builder.fallback_timeout(time)),
    ("extra_connection_idle_timeout", |builder, time| builder.max_connections(2).extra_connection_idle_timeout(time)),
];

fn weighted(builder: ChannelBuilder, change: impl FnOnce(&mut WeightedRoundRobinSettings)) -> ChannelBuilder {
    let mut settings = WeightedRoundRobinSettings::default();
    settings.enable_oob_load_report = true;
    change(&mut settings);
    builder.balancer(WeightedRoundRobin::with_settings(settings).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_setting_of_a_channel_makes_it_panic_whatever_its_length() {
    let stage = Stage::new();
    let (_a, _first) = stage.server("a").await;
    let (_b, _second) = stage.server("b").await;
    for time in EXTREMES {
        for (name, put_service_config) in HARMLESS.iter().chain(&BOUNDS) {
            let what = format!("{name} {time:?}");
            let channel = match put_service_config(stage.builder(), time).build() {
                Ok(channel) => channel,
                Err(error) => {
                    assert_eq!((error.kind(), time), (ErrorKind::Invalid, Duration::ZERO), "{what}");
                    continue;
                }
            };
            let mut asked = waiting(request());
            asked.set_timeout(PATIENCE / 20);
            match in_time(echo(&channel).unary(asked)).await {
                Ok(_) => {}
                Err(status) => {
                    assert_alive(&what, status.message());
                    assert!(
                        BOUNDS.iter().any(|(bound, _)| bound == name) && time != Duration::MAX,
                        "{what}: {status:?}"
                    );
                }
            }
            // What was begun goes on.
            tokio::time::sleep(Duration::from_millis(if name.starts_with("keepalive") { 1_200 } else { 20 })).await;
            let status = in_time(echo(&channel).unary(request())).await.err();
            assert_alive(&what, status.as_ref().map_or("", |status| status.message()));
            let errors = channel.endpoints().into_iter().filter_map(|status| status.connection_error);
            errors.for_each(|error| assert_alive(&what, &error.to_string()));
        }
    }
}

#[tokio::test]
async fn no_backoff_makes_a_channel_panic_whatever_its_length() {
    for time in &EXTREMES[1..] {
        let stage = Stage::new();
        let (server, _registration) = stage.raw("a", |peer: Peer| async move { peer.cut() }).await;
        let backoff = Backoff::new(*time, *time, 1.6, 1.0).unwrap();
        let watcher = watch(|settings| settings.backoff = backoff.clone());
        let channel = stage.builder().backoff(backoff).watch_settings(watcher).build().unwrap();
        until("it has been dialled", || server.stats().accepted > 0).await;
        until("that has failed", || channel.endpoints().iter().any(|status| status.connection_error.is_some())).await;
        stage.board.faults(|faults| faults.down = Some(Error::new(ErrorKind::Unavailable, "down")));
        let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
        assert_alive("backoff", status.message());
    }
}

/// A server that reports its load out of band as often as a client wants it.
#[tokio::test]
async fn no_interval_of_load_reports_makes_a_server_panic() {
    for time in EXTREMES {
        let service = LoadReportServer::new(LoadRecorder::with_window(time)).min_interval(time);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let server = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
        let server = tokio::spawn(async move { server.await.map_err(BoxError::from) });
        for asked in EXTREMES {
            let stage = Stage::new();
            let _registration = stage.sign_in("a", address.try_into().unwrap(), 1).await;
            let builder = weighted(stage.builder(), |settings| settings.oob_reporting_period = asked);
            let channel = stage.channel(builder, 1).await;
            until("a report has come", || endpoint(&channel, "a").endpoint.load().is_some()).await;
            tokio::time::sleep(Duration::from_millis(30)).await;
            assert!(!server.is_finished(), "{time:?}, {asked:?}");
        }
        server.abort();
    }
}

#[tokio::test]
async fn no_settings_of_an_announcement_make_it_panic() {
    for time in EXTREMES {
        for backoff in &EXTREMES[1..] {
            let stage = Stage::new();
            stage.board.faults(|faults| faults.down = Some(Error::new(ErrorKind::Unavailable, "down")));
            let instance =
                Instance::new("a", "127.0.0.1:1".parse().unwrap()).unwrap().with_incarnation(Incarnation::fresh());
            let mut settings = RegistrationSettings::default();
            settings.attempt_timeout = time;
            settings.backoff = Backoff::new(*backoff, *backoff, 1.6, 1.0).unwrap();
            let registration = register(Arc::new(stage.board.clone()), &stage.service, instance, settings);
            let mut state = registration.watch_state();
            let failed = |state: &RegistrationState| matches!(state, RegistrationState::Registering { failures, .. } if *failures > 0);
            in_time(state.wait_for(failed)).await.unwrap();
            stage.board.faults(|faults| faults.down = None);
            tokio::time::sleep(Duration::from_millis(20)).await;
            in_time(registration.deregister()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_server_stops_whatever_it_is_to_wait_for() {
    for time in EXTREMES {
        for (leave, delay, grace) in [
            (time, Duration::ZERO, Duration::ZERO),
            (time, time, Duration::ZERO),
            (Duration::ZERO, Duration::ZERO, time),
        ] {
            let stage = Stage::new();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let (shut_down, may_end) = tokio::sync::oneshot::channel::<()>();
            let server = callboard::Serve::new(Arc::new(stage.board.clone()), stage.service.clone())
                .signals(false)
                .shutdown_signal(std::future::ready(()))
                .deregister_timeout(leave)
                .deregister_delay(delay)
                .drain_timeout(grace)
                .run(listener, |_, shutdown| async move {
                    // It ends by itself, before a delay that never ends.
                    tokio::select! {
                        () = shutdown => {}
                        _ = may_end => {}
                    }
                    Ok::<_, BoxError>(())
                });
            let server = tokio::spawn(server);
            tokio::time::sleep(Duration::from_millis(30)).await;
            drop(shut_down);
            let ended = in_time(server).await.expect("no panic");
            assert!(ended.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::Timeout), "{ended:?}");
        }
    }
}

#[tokio::test]
async fn the_lengths_of_time_in_a_url_take_any_that_can_be_said() {
    for time in ["0s", "1ms", "18446744073709551615ms", "5124095576030h"] {
        for key in ["timeout", "connect_timeout"] {
            let dialled = callboard::dial(&format!("file:///a/b?root=/nowhere&{key}={time}")).await;
            let Ok(channel) = dialled else {
                assert_eq!((key, time), ("connect_timeout", "0s"));
                continue;
            };
            let status = in_time(echo(&channel).unary(request())).await.unwrap_err();
            assert_alive(time, status.message());
        }
    }
}
