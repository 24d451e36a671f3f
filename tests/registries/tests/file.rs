//! Over a directory: no registry's server at all.

use callboard_registry_tests::{examples, four_questions, rolling_restart};
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
