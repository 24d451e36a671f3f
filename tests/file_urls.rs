//! A directory as registry, from one URL on both sides.

mod common;

use callboard::{ErrorKind, Instance, RegistrationSettings, dial, register, registry};
use callboard_echo::EchoServer;
use common::{echo, in_time, request, until_endpoints, until_ready};

#[tokio::test(flavor = "multi_thread")]
async fn servers_and_clients_meet_in_a_directory() {
    let root = tempfile::TempDir::with_prefix("callboard").unwrap();
    let url = format!("file://{}/project/test", root.path().display());
    let sign_in = async |server: &EchoServer| {
        let (registry, service) = registry(&url).unwrap();
        let instance = Instance::new(server.id(), server.address().try_into().unwrap()).unwrap();
        register(registry, &service, instance, RegistrationSettings::default())
    };
    let (a, b) = (EchoServer::start("a").await.unwrap(), EchoServer::start("b").await.unwrap());
    let (_a, leaver) = (sign_in(&a).await, sign_in(&b).await);
    let channel = in_time(dial(&url)).await.unwrap();
    until_ready(&channel, 2).await;
    in_time(leaver.deregister()).await.unwrap();
    until_endpoints(&channel, &["a"]).await;
    assert_eq!(in_time(echo(&channel).unary(request())).await.unwrap().into_inner().server, "a");
}

#[tokio::test]
async fn a_url_with_a_host_is_refused() {
    let error = dial("file://host/project/test").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
}
