//! Behind HAProxy. Version 2.6 has no setting by which it ends connections for their age or the number of their requests.

use callboard_proxy_tests as cases;
use callboard_servers::Cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs HAProxy: make test"]
async fn calls_and_streams_pass() {
    cases::calls("haproxy", Cluster::haproxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs HAProxy: make test"]
async fn more_callers_than_it_has_streams_wait() {
    cases::crowd("haproxy", Cluster::haproxy, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs HAProxy: make test"]
async fn a_reload_fails_no_call() {
    cases::reload("haproxy", Cluster::haproxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs HAProxy: make test"]
async fn its_death_fails_what_was_in_flight_on_it() {
    cases::death("haproxy", Cluster::haproxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs HAProxy: make test"]
async fn without_servers_it_is_unavailable() {
    cases::servers_gone("haproxy", Cluster::haproxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs HAProxy: make test"]
async fn connections_that_it_ends_when_idle_fail_no_call() {
    cases::idle("haproxy", Cluster::haproxy, &["timeout client 100ms"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs HAProxy: make test"]
async fn calls_that_it_does_not_wait_for_fail_alone() {
    let others = cases::slow_servers("haproxy", Cluster::haproxy, &["timeout server 1s"]).await;
    assert!(!others, "other calls have failed too");
}
