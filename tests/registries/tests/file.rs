//! Over a directory: no registry's server at all.

use callboard_registry_tests::{examples, four_questions, lookaside, rolling_restart};
use tempfile::TempDir;

fn url(root: &TempDir) -> String {
    format!("file:///project/test?root={}", root.path().display())
}

#[tokio::test]
async fn a_server_comes_leaves_and_dies_and_one_client_follows() {
    let root = tempfile::tempdir().expect("a directory");
    four_questions(examples!(), &url(&root), 16).await;
}

#[tokio::test]
async fn servers_are_replaced_one_after_the_other_and_no_call_is_lost() {
    let root = tempfile::tempdir().expect("a directory");
    rolling_restart(examples!(), &url(&root)).await;
}

#[tokio::test]
async fn an_external_balancer_is_asked_while_there_is_one() {
    let root = tempfile::tempdir().expect("a directory");
    lookaside(examples!(), &url(&root)).await;
}
