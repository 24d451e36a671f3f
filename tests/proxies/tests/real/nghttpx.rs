//! Behind nghttpx.

use callboard_proxy_tests as cases;
use callboard_servers::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nghttpx: make test"]
async fn calls_and_streams_pass() {
    cases::calls("nghttpx", Cluster::nghttpx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nghttpx: make test"]
async fn more_callers_than_it_has_streams_wait() {
    cases::crowd("nghttpx", Cluster::nghttpx, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nghttpx: make test"]
async fn a_reload_fails_no_call() {
    cases::reload("nghttpx", Cluster::nghttpx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nghttpx: make test"]
async fn its_death_fails_what_was_in_flight_on_it() {
    cases::death("nghttpx", Cluster::nghttpx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nghttpx: make test"]
async fn without_servers_it_is_unavailable() {
    cases::servers_gone("nghttpx", Cluster::nghttpx).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nghttpx: make test"]
async fn fifty_requests_a_connection_fail_no_call() {
    cases::limit("nghttpx", Cluster::nghttpx, "frontend-max-requests=50", &["frontend-max-requests=50"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nghttpx: make test"]
async fn connections_that_it_ends_when_idle_fail_no_call_that_may_be_sent_twice() {
    cases::idle_unannounced("nghttpx", Cluster::nghttpx, &["frontend-http2-read-timeout=100ms"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs nghttpx: make test"]
async fn calls_that_it_does_not_wait_for_fail_alone() {
    let others = cases::slow_servers("nghttpx", Cluster::nghttpx, &["backend-read-timeout=1s"]).await;
    assert!(!others, "other calls have failed too");
}
