//! Behind nginx.

use callboard_proxy_tests as cases;
use callboard_servers::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx: make test"]
async fn calls_and_streams_pass() {
    cases::calls("nginx", Cluster::nginx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx: make test"]
async fn more_callers_than_it_has_streams_wait() {
    cases::crowd("nginx", Cluster::nginx, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx: make test"]
async fn a_reload_fails_no_call() {
    cases::reload("nginx", Cluster::nginx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx: make test"]
async fn its_death_fails_what_was_in_flight_on_it() {
    cases::death("nginx", Cluster::nginx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx: make test"]
async fn without_servers_it_is_unavailable() {
    cases::servers_gone("nginx", Cluster::nginx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx: make test"]
async fn fifty_requests_a_connection_fail_no_call() {
    cases::limit("nginx", Cluster::nginx, "keepalive_requests 50", &["keepalive_requests 50;"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx: make test"]
async fn connections_of_300_ms_fail_no_call() {
    cases::limit("nginx", Cluster::nginx, "keepalive_time 300ms", &["keepalive_time 300ms;"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx: make test"]
async fn connections_that_it_ends_when_idle_fail_no_call() {
    cases::idle("nginx", Cluster::nginx, &["keepalive_timeout 100ms;"]).await;
}

/// A server that is slow once counts as down for ten seconds, by the defaults of `max_fails` and `fail_timeout`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nginx: make test"]
async fn calls_that_it_does_not_wait_for_shut_the_servers_out() {
    let others = cases::slow_servers("nginx", Cluster::nginx, &["grpc_read_timeout 1s;"]).await;
    assert!(others, "nginx was patient: say so in docs/decisions/behind-proxies.md");
}
