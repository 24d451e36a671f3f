//! Behind Envoy.

use callboard_proxy_tests as cases;
use callboard_servers::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Envoy: make test"]
async fn calls_and_streams_pass() {
    cases::calls("envoy", Cluster::envoy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Envoy: make test"]
async fn more_callers_than_it_has_streams_wait() {
    cases::crowd("envoy", Cluster::envoy, &["http2_protocol_options: {max_concurrent_streams: 100}"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Envoy: make test"]
async fn a_reload_fails_no_call() {
    cases::reload("envoy", Cluster::envoy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Envoy: make test"]
async fn its_death_fails_what_was_in_flight_on_it() {
    cases::death("envoy", Cluster::envoy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Envoy: make test"]
async fn without_servers_it_is_unavailable() {
    cases::servers_gone("envoy", Cluster::envoy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Envoy: make test"]
async fn fifty_requests_a_connection_fail_no_call() {
    cases::limit(
        "envoy",
        Cluster::envoy,
        "max_requests_per_connection 50",
        &["common_http_protocol_options: {max_requests_per_connection: 50}"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Envoy: make test"]
async fn connections_of_300_ms_fail_no_call() {
    cases::limit(
        "envoy",
        Cluster::envoy,
        "max_connection_duration 0.3s",
        &["common_http_protocol_options: {max_connection_duration: 0.3s}"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Envoy: make test"]
async fn connections_that_it_ends_when_idle_fail_no_call() {
    cases::idle("envoy", Cluster::envoy, &["common_http_protocol_options: {idle_timeout: 0.1s}"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Envoy: make test"]
async fn calls_that_it_does_not_wait_for_fail_alone() {
    let others = cases::slow_servers("envoy", Cluster::envoy, &["stream_idle_timeout: 1s"]).await;
    assert!(!others, "other calls have failed too");
}
