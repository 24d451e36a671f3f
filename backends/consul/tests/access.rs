//! Access to an agent: ACL tokens, HTTPS with client certificates, Unix sockets.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they share")]

mod agents;

use std::time::Duration;

use agents::Agents;
use callboard_conformance::{Seen, Watcher};
use callboard_consul::{Consul, ConsulBuilder};
use callboard_core::{
    Error, ErrorKind, Instance, Registry, RegistryTls, Resolver, Result, ServiceName, Snapshot, Target,
};
use callboard_servers::{Cluster, Port, ask, page};
use callboard_tls_tests::{Authority, Pair};
use futures_util::StreamExt;
use tokio::time::{Instant, sleep, timeout};

const SOON: Duration = Duration::from_secs(20);
const ROOT: &str = "6a1253d2-1785-24fd-91c2-f8e78c745511";
const OURS: &str = "45a3bd52-07c7-47a4-52fd-0745e0cfe967";
const NOBODYS: &str = "00000000-07c7-47a4-52fd-0745e0cfe967";

fn project() -> ServiceName {
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
async fn a_token_is_sent_and_without_one_access_is_denied() {
    let agents = guarded().await;
    works(agents.builder().token(OURS)).await;
    let denied = |result: Result<()>, what: &str| {
        let error = result.expect_err(what);
        assert_eq!((error.kind(), error.service()), (ErrorKind::Denied, Some(&project())), "{what}: {error:?}");
        let right = if what.starts_with("registering") { "service:write" } else { "service:read" };
        assert!(error.to_string().contains(right), "{error}");
        let shown = format!("{error} {error:?} {}", error.chain());
        assert!(!shown.contains(NOBODYS) && !shown.contains(OURS), "{shown}");
    };
    let without = agents.consul();
    denied(without.register(&project(), &instance()).await.map(drop), "registering without a token");
    denied(first(&without).await.map(drop), "watching without a token, to whom Consul shows an empty list");
    let wrong = agents.builder().token(NOBODYS).build().unwrap();
    denied(wrong.register(&project(), &instance()).await.map(drop), "registering with a wrong token");
    denied(first(&wrong).await.map(drop), "watching with a wrong token");
    let other: ServiceName = "other".parse().unwrap();
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
    let url = format!(
        "consul://{}/project-test?registry_ca={ca}&registry_cert={}&registry_key={}",
        port.address(),
        encoded(&cert),
        encoded(&key)
    );
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

/// One client all the while: its certificate has expired, and is renewed on disk, twice.
#[tokio::test]
#[ignore = "needs Consul: make test"]
async fn a_certificate_that_is_renewed_on_disk_is_shown_by_the_client_that_is_there() {
    let (ours, next) = (Authority::new("ours").unwrap(), Authority::new("next").unwrap());
    let here = |params: &mut rcgen::CertificateParams| {
        params.subject_alt_names = vec![rcgen::SanType::IpAddress([127, 0, 0, 1].into())];
    };
    let server = ours.issue(here).unwrap();
    let expired = ours.issue(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let write = |name: &str, text: &str| {
        std::fs::write(path("new"), text).unwrap();
        std::fs::rename(path("new"), path(name)).unwrap();
    };
    let shown = |pair: &Pair| {
        write("client.pem", &pair.certificate);
        write("client.key", &pair.key);
    };
    let serving = |ca: &str, pair: &Pair| {
        write("server-ca.pem", ca);
        write("server.pem", &pair.certificate);
        write("server.key", &pair.key);
    };
    serving(&ours.pem, &server);
    write("ca.pem", &ours.pem);
    shown(&expired);
    let port = Port::free().unwrap();
    let hcl = format!(
        r#"ports {{ https = {} }} tls {{ https {{ ca_file = "{}", cert_file = "{}", key_file = "{}", verify_incoming = true }} }}"#,
        port.number(),
        path("server-ca.pem"),
        path("server.pem"),
        path("server.key"),
    );
    let agents = Agents::on(Cluster::consul().config(hcl).start().await);
    let tls = RegistryTls::with_ca_file(path("ca.pem")).unwrap();
    let tls = tls.identity_files(path("client.pem"), path("client.key")).unwrap();
    let consul = agents.builder().address(format!("https://{}", port.address())).tls(tls).build().unwrap();
    let error = first(&consul).await.expect_err("it has expired");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("TLS"), "{}", error.chain());
    let works_soon = async |what: &str| {
        let soon = async { while first(&consul).await.is_err() {} };
        timeout(SOON, soon).await.unwrap_or_else(|_| panic!("{what}: it is not shown"));
    };
    shown(&ours.issue(|_| {}).unwrap());
    works_soon("renewed").await;
    let lease = consul.register(&project(), &instance()).await.unwrap();

    // The authority changes, for both sides. The agent reads its own when it starts.
    serving(&next.pem, &next.issue(here).unwrap());
    write("ca.pem", &next.pem);
    shown(&next.issue(|_| {}).unwrap());
    agents.cluster.restart().await;
    works_soon("another authority").await;
    lease.revoke().await.unwrap();
    // What is half written is not used.
    write("client.pem", "-----BEGIN CERTIFICATE-----");
    works_soon("half written").await;
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

const SERVER: &str = "11111111-07c7-47a4-52fd-0745e0cfe967";
const CLIENT: &str = "22222222-07c7-47a4-52fd-0745e0cfe967";
const OPERATOR: &str = "33333333-07c7-47a4-52fd-0745e0cfe967";

fn is_denied<T>(what: &str, result: Result<T, Error>) {
    let error = result.err().unwrap_or_else(|| panic!("{what} is permitted"));
    assert_eq!(error.kind(), ErrorKind::Denied, "{what}: {error:?}");
}

/// As they stand in the guide's page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Consul: make test"]
async fn the_rights_that_the_guide_gives_are_enough_and_no_more() {
    let agents = Agents::guarded("").await;
    let address = agents.cluster.address().to_string();
    let variables = [
        ("CONSUL_HTTP_ADDR", address.as_str()),
        ("CONSUL_HTTP_TOKEN", ROOT),
        ("SERVER_TOKEN", SERVER),
        ("CLIENT_TOKEN", CLIENT),
        ("OPERATOR_TOKEN", OPERATOR),
    ];
    page::run("who-may-write-what.md", "Consul", &variables, &[]).await;
    let (service, other) = ("project/test".parse().unwrap(), "project/other".parse().unwrap());
    let of = |token: &str| -> Consul { agents.builder().token(token).build().unwrap() };
    let (server, client, operator) = (of(SERVER), of(CLIENT), of(OPERATOR));
    let own = Instance::at("10.0.0.7:50051".parse().unwrap()).unwrap();

    let mut lease = server.register(&service, &own).await.unwrap();
    lease.update(&own.clone().with_weight(2)).await.unwrap();
    operator.put_service_config(&service, Some("{}")).await.unwrap();
    let watcher = Watcher::new(std::sync::Arc::new(client.clone()), &service);
    let right = |seen: &Seen| {
        seen.instance(own.id()).is_some_and(|seen| seen.weight() == 2) && seen.config.as_deref() == Some(&b"{}"[..])
    };
    watcher.until(SOON, "the record and the config", right).await;
    let lost = timeout(agents::TTL * 2, lease.lost()).await;
    assert!(lost.is_err(), "it is kept alive: {lost:?}");

    is_denied("a server's record of another service", server.register(&other, &own).await);
    is_denied("a server's config", server.put_service_config(&service, None).await);
    is_denied("a client's record", client.register(&service, &own).await);
    is_denied("a client's config", client.put_service_config(&service, None).await);
    is_denied("an operator's record", operator.register(&service, &own).await);
    is_denied("a look at another service", timeout(SOON, client.watch(&other).next()).await.unwrap().unwrap());
    lease.revoke().await.unwrap();
}
