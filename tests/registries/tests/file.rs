//! Over a directory: no registry's server at all.

use callboard_registry_tests::{examples, four_questions};

#[tokio::test]
async fn a_server_comes_leaves_and_dies_and_one_client_follows() {
    let root = tempfile::tempdir().expect("a directory");
    four_questions(examples!(), &format!("file:///project/test?root={}", root.path().display()), 16).await;
}
