//! Whom an agent answers: ACL tokens, HTTPS with client certificates, Unix sockets.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they share")]

mod agents;

use std::time::Duration;

use agents::Agents;
use callboard_consul::{Consul, ConsulBuilder};
use callboard_core::{ErrorKind, Instance, Registry, RegistryTls, Resolver, Result, Service, Snapshot, Target};
use callboard_servers::{Cluster, Port, ask};
use callboard_tls_tests::{Authority, Pair};
use futures_util::StreamExt;
use tokio::time::{Instant, sleep, timeout};

const SOON: Duration = Duration::from_secs(20);
const ROOT: &str = "6a1253d2-1785-24fd-91c2-f8e78c745511";
const OURS: &str = "45a3bd52-07c7-47a4-52fd-0745e0cfe967";
const NOBODYS: &str = "00000000-07c7-47a4-52fd-0745e0cfe967";

fn project() -> Service {
    "project-test".parse().unwrap()
}

fn instance() -> Instance {
    Instance::new("a", "127.0.0.1:1".parse().unwrap()).unwrap()
}

async fn first(consul: &Consul) -> Result<Snapshot> {
    timeout(SOON, consul.watch(&project()).next()).await.unwrap().unwrap()
}

/// Registers and is seen, by the same settings.
async fn works(builder: ConsulBuilder) {
    let consul = builder.build().unwrap();
    let lease = consul.register(&project(), &instance()).await.unwrap();
    let give_up = Instant::now() + SOON;
    while first(&consul).await.unwrap().instances.is_empty() {
        assert!(Instant::now() < give_up, "registered, but not seen");
        sleep(Duration::from_millis(10)).await;
    }
    lease.revoke().await.unwrap();
}

/// An agent that permits nothing without a token, and the token that may do what is needed, and no more.
async fn guarded() -> Agents {
    let acl = format!(
        r#"acl {{ enabled = true, default_policy = "deny", tokens {{ initial_management = "{ROOT}", agent = "{ROOT}" }} }}"#
    );
    let cluster = Cluster::consul_dev().config(acl).token(ROOT).start().await;
    let rules = r#"service \"project-test\" { policy = \"write\" } node_prefix \"\" { policy = \"read\" }"#;
    for (path, body) in [
        ("/v1/acl/policy", format!(r#"{{"Name":"ours","Rules":"{rules}"}}"#)),
        ("/v1/acl/token", format!(r#"{{"SecretID":"{OURS}","Policies":[{{"Name":"ours"}}]}}"#)),
    ] {
        let answer =
            ask::http(cluster.address(), "PUT", path, &[&format!("X-Consul-Token: {ROOT}")], &body).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    Agents::on(cluster)
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_token_is_shown_and_who_has_none_is_denied() {
    let agents = guarded().await;
    works(agents.builder().token(OURS)).await;
    let denied = |result: Result<()>, what: &str| {
        let error = result.expect_err(what);
        assert_eq!((error.kind(), error.service()), (ErrorKind::Denied, Some(&project())), "{what}: {error:?}");
        assert!(error.to_string().contains("service:write"), "{error}");
        let shown = format!("{error} {error:?} {}", error.chain());
        assert!(!shown.contains(NOBODYS) && !shown.contains(OURS), "{shown}");
    };
    let without = agents.consul();
    denied(without.register(&project(), &instance()).await.map(drop), "registering without a token");
    // This is why an empty set is not believed at once: it is what Consul answers to whoever may not read.
    assert!(first(&without).await.unwrap().instances.is_empty());
    let wrong = agents.builder().token(NOBODYS).build().unwrap();
    denied(wrong.register(&project(), &instance()).await.map(drop), "registering with a wrong token");
    denied(first(&wrong).await.map(drop), "watching with a wrong token");
    let other: Service = "other".parse().unwrap();
    let error = agents.builder().token(OURS).build().unwrap().register(&other, &instance()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_dial_url_may_hold_the_token_in_several_places_and_never_shows_it() {
    let agents = guarded().await;
    let address = agents.cluster.address();
    for url in [
        format!("consul://{OURS}@{address}/project-test"),
        format!("consul://:{OURS}@{address}/project-test?ttl=5s"),
        format!("consul://{address}/project-test?token={OURS}"),
    ] {
        let target: Target = url.parse().unwrap();
        let mut options = target.options();
        let consul = Consul::from_target(&target, &mut options).unwrap();
        let shown = format!("{target} {target:?} {options:?} {consul:?}");
        assert!(!shown.contains(OURS), "{shown}");
        options.finish().unwrap();
        let lease = consul.register(&project(), &instance()).await.unwrap();
        lease.revoke().await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn https_with_a_client_certificate() {
    let (ours, theirs) = (Authority::new("ours").unwrap(), Authority::new("theirs").unwrap());
    let here = |params: &mut rcgen::CertificateParams| {
        params.subject_alt_names = vec![rcgen::SanType::IpAddress([127, 0, 0, 1].into())];
    };
    let (server, client, stranger) =
        (ours.issue(here).unwrap(), ours.issue(|_| {}).unwrap(), theirs.issue(|_| {}).unwrap());
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let port = Port::free().unwrap();
    let hcl = format!(
        r#"ports {{ https = {} }} tls {{ https {{ ca_file = "{}", cert_file = "{}", key_file = "{}", verify_incoming = true }} }}"#,
        port.number(),
        file("ca.pem", &ours.pem),
        file("server.pem", &server.certificate),
        file("server.key", &server.key),
    );
    let agents = Agents::on(Cluster::consul_dev().config(hcl).start().await);
    let builder = || agents.builder().address(format!("https://{}", port.address()));
    let trusting = |ca: &str| RegistryTls::with_ca(ca).unwrap();
    let shown = |ca: &str, pair: &Pair| trusting(ca).identity(pair.certificate.clone(), pair.key.clone()).unwrap();
    works(builder().tls(shown(&ours.pem, &client))).await;
    let (cert, key) = (file("client.pem", &client.certificate), file("client.key", &client.key));
    let encoded = |path: &str| path.replace('/', "%2F");
    let ca = encoded(directory.path().join("ca.pem").to_str().unwrap());
    let url = format!("consul://{}/project-test?ca={ca}&cert={}&key={}", port.address(), encoded(&cert), encoded(&key));
    let target: Target = url.parse().unwrap();
    first(&Consul::from_target(&target, &mut target.options()).unwrap()).await.unwrap();
    for (builder, what) in [
        (builder().tls(trusting(&ours.pem)), "without a certificate"),
        (builder().tls(shown(&ours.pem, &stranger)), "with a certificate of another CA"),
        (builder().tls(shown(&theirs.pem, &client)), "trusting another CA"),
    ] {
        let error = first(&builder.build().unwrap()).await.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{what}: {error:?}");
        assert!(std::error::Error::source(&error).is_some(), "{what}: {error:?}");
    }
}

#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn an_agent_may_listen_on_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("http.sock");
    let socket = socket.to_str().unwrap();
    let hcl = format!(r#"addresses {{ http = "127.0.0.1 unix://{socket}" }}"#);
    let agents = Agents::on(Cluster::consul_dev().config(hcl).start().await);
    works(agents.builder().address(format!("unix://{socket}"))).await;
    let target: Target = format!("consul://{}/project-test", socket.replace('/', "%2F")).parse().unwrap();
    first(&Consul::from_target(&target, &mut target.options()).unwrap()).await.unwrap();
}
