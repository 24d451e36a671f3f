//! Servers that end connections by themselves.

use callboard_proxy_tests as cases;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Go: make test"]
async fn grpc_go_whose_connections_end_after_300_ms_fails_no_call() {
    cases::grpc_go().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tonic_whose_connections_end_after_900_ms_fails_no_call() {
    cases::tonic().await;
}
