//! Users and passwords, and TLS.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they call")]

mod common;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use callboard_conformance::{Seen, Watcher};
use callboard_core::{
    Error, ErrorKind, RegistrationSettings, RegistrationState, Registry, RegistryTls, Resolver, Snapshot, Snapshots,
    Target, register,
};
use callboard_etcd::Etcd;
use callboard_servers::{Cluster, page};
use callboard_tls_tests::{Authority, NAME};
use common::users::{APP, PASSWORD, READER};
use common::{SOON, Servers, builder, instance, service};
use etcd_client::RoleRevokePermissionOptions;
use futures_util::StreamExt;
use tokio::time::timeout;

async fn next(watch: &mut Snapshots) -> Result<Snapshot, Error> {
    timeout(SOON, watch.next()).await.expect("in time").expect("not the end")
}

fn tells_no_password(error: &Error) {
    let shown = format!("{error} {error:?} {}", error.chain());
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn who_knows_the_password_is_let_in_and_others_are_denied() {
    let (servers, service) = (Servers::guarded().await, service("project/test"));
    let app = servers.builder().user(APP, PASSWORD).build().unwrap();
    let mut lease = app.register(&service, &instance("a", 1)).await.unwrap();
    let mut watch = app.watch(&service);
    assert_eq!(next(&mut watch).await.unwrap().instances.len(), 1);
    let lost = timeout(common::TTL * 2, lease.lost()).await;
    assert!(lost.is_err(), "{lost:?}");
    for (etcd, why) in [
        (servers.builder().user(APP, "hunter2-is-wrong").build().unwrap(), "wrong user or password"),
        (servers.builder().build().unwrap(), "user"),
        (servers.builder().user(APP, PASSWORD).prefix("/elsewhere").build().unwrap(), "permission"),
    ] {
        let refused = etcd.register(&service, &instance("b", 2)).await.unwrap_err();
        let unseen = next(&mut etcd.watch(&service)).await.unwrap_err();
        for error in [refused, unseen] {
            println!("{}", error.chain());
            assert_eq!((error.kind(), error.backend()), (ErrorKind::Denied, Some("etcd")), "{error:?}");
            assert!(error.message().contains(why), "{error}");
            tells_no_password(&error);
        }
    }
    lease.revoke().await.unwrap();
    assert!(next(&mut watch).await.unwrap().instances.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn who_may_only_read_sees_a_config_and_may_not_change_it() {
    let (servers, service) = (Servers::guarded().await, service("project/test"));
    let [app, reader] = [APP, READER].map(|user| servers.builder().user(user, PASSWORD).build().unwrap());
    app.put_service_config(&service, Some("{}")).await.unwrap();
    let mut watch = reader.watch(&service);
    assert_eq!(next(&mut watch).await.unwrap().config.as_deref(), Some(&b"{}"[..]));
    for (config, what) in [(Some("[]"), "cannot write the config"), (None, "cannot remove the config")] {
        let error = reader.put_service_config(&service, config).await.unwrap_err();
        println!("{}", error.chain());
        assert_eq!((error.kind(), error.service()), (ErrorKind::Denied, Some(&service)), "{error:?}");
        assert!(error.message().contains(what) && error.message().contains("write permission"), "{error}");
        tells_no_password(&error);
    }
    app.put_service_config(&service, None).await.unwrap();
    assert_eq!(next(&mut watch).await.unwrap().config, None, "the refused ones have changed nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn a_token_that_is_lost_or_too_old_is_replaced() {
    let (servers, service) = (Servers::guarded().await, service("project/test"));
    let app = servers.builder().user(APP, PASSWORD).build().unwrap();
    let mut lease = app.register(&service, &instance("a", 1)).await.unwrap();
    let mut watch = app.watch(&service);
    assert_eq!(next(&mut watch).await.unwrap().instances.len(), 1);
    // A token of before a restart is not known afterwards.
    servers.cluster.restart().await;
    let mut root = servers.root().await;
    let seen = async |watch: &mut Snapshots, weight: u32| {
        while !matches!(next(watch).await, Ok(set) if set.instances.iter().any(|i| i.weight() == weight)) {
            *watch = app.watch(&service);
        }
    };
    lease.update(&instance("a", 1).with_weight(2)).await.unwrap();
    seen(&mut watch, 2).await;
    // One of before a change of permissions is too old afterwards.
    for weight in 3..6 {
        root.role_revoke_permission(APP, "/nowhere", None::<RoleRevokePermissionOptions>).await.unwrap_err();
        root.role_add(format!("another-{weight}")).await.unwrap();
        root.user_grant_role(APP, format!("another-{weight}")).await.unwrap();
        lease.update(&instance("a", 1).with_weight(weight)).await.unwrap();
        let mut fresh = app.watch(&service);
        seen(&mut fresh, weight).await;
        seen(&mut watch, weight).await;
    }
    let lost = timeout(Duration::from_secs(1), lease.lost()).await;
    assert!(lost.is_err(), "{lost:?}");
    lease.revoke().await.unwrap();
}

/// A stream is let in by the token with which it was opened, and asked for another watch when that has expired.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn a_stream_of_watches_outlives_its_token() {
    let expires = Duration::from_secs(2);
    let servers = Servers::guarded_as(Cluster::etcd().arg("--auth-token-ttl=2")).await;
    let (app, service) = (servers.builder().user(APP, PASSWORD).build().unwrap(), service("project/test"));
    let other = servers.builder().user(APP, PASSWORD).build().unwrap();
    let early = Watcher::new(Arc::new(app.clone()), &service);
    let mut lease = other.register(&service, &instance("a", 1)).await.unwrap();
    early.until_ids(SOON, "before", &["a"]).await;
    // Nothing but time ends a token, and any use of it lengthens its life.
    tokio::time::sleep(expires * 3).await;
    let late = Watcher::new(Arc::new(app), &service);
    late.until_ids(SOON, "with a new token", &["a"]).await;
    lease.update(&instance("a", 1).with_weight(7)).await.unwrap();
    for watcher in [&early, &late] {
        let right = |seen: &Seen| seen.stale.is_none() && seen.instance("a").is_some_and(|a| a.weight() == 7);
        let seen = watcher.until(SOON, "the change", right).await;
        assert_eq!(seen.emptied, 0);
    }
    lease.revoke().await.unwrap();
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn a_password_for_an_etcd_without_users_is_denied_with_the_reason() {
    let servers = Servers::one().await;
    let etcd = servers.builder().user(APP, PASSWORD).build().unwrap();
    let error = etcd.register(&service("project/test"), &instance("a", 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(error.message().contains("knows no users"), "{error}");
    tells_no_password(&error);
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn tls_with_client_certificates() {
    let service = service("project/test");
    let authority = |name| Authority::new(name).unwrap();
    let (ours, clients, foreign) = (authority("ours"), authority("clients"), authority("foreign"));
    // etcd shows its certificate to itself too, when it is asked in JSON.
    let server = ours.issue(|_| {}).unwrap();
    let own = clients.issue(|_| {}).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert, key, ca) = (file("s.pem", &server.certificate), file("s.key", &server.key), file("c.pem", &clients.pem));
    let setup = Cluster::etcd().arg(format!("--cert-file={cert}")).arg(format!("--key-file={key}"));
    let servers = setup.arg(format!("--trusted-ca-file={ca}")).arg("--client-cert-auth").start().await;

    let tls = |authority: &Authority| RegistryTls::with_ca(authority.pem.clone()).unwrap();
    let shown = |tls: RegistryTls, pair: &callboard_tls_tests::Pair| {
        tls.identity(pair.certificate.clone(), pair.key.clone()).unwrap()
    };
    let named = |tls: RegistryTls, name| builder(servers.addresses()).tls(tls).server_name(name).build().unwrap();
    let dial = |tls: RegistryTls| named(tls, NAME);
    let good = dial(shown(tls(&ours), &own));
    let lease = good.register(&service, &instance("a", 1)).await.unwrap();
    assert_eq!(next(&mut good.watch(&service)).await.unwrap().instances.len(), 1);

    // The same by a URL.
    let files = [file("ca.pem", &ours.pem), file("own.pem", &own.certificate), file("own.key", &own.key)];
    let [ca, cert, key] = &files;
    let url = format!(
        "etcd://{}/project/test?registry_ca={ca}&registry_cert={cert}&registry_key={key}&registry_server_name={NAME}",
        servers.address()
    );
    let target: Target = url.parse().unwrap();
    let mut options = target.options();
    let by_url = Etcd::from_target(&target, &mut options).unwrap();
    options.finish().unwrap();
    assert_eq!(next(&mut by_url.watch(&service)).await.unwrap().instances.len(), 1);
    lease.revoke().await.unwrap();

    for (etcd, why) in [
        (dial(shown(tls(&foreign), &own)), "UnknownIssuer"),
        (named(shown(tls(&ours), &own), "other.internal"), "other.internal"),
        // Whether etcd's alert or the end of the connection comes first is chance.
        (dial(tls(&ours)), "client certificate that it trusts|fatal alert"),
        (dial(shown(tls(&ours), &ours.issue(|_| {}).unwrap())), "client certificate that it trusts|fatal alert"),
    ] {
        let error = timeout(SOON, etcd.register(&service, &instance("b", 2))).await.expect("in time").unwrap_err();
        println!("{}", error.chain());
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
        assert!(why.split('|').any(|why| error.chain().contains(why)), "{why}: {}", error.chain());
    }
}

/// A client certificate that is renewed on disk is shown at the next connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn a_client_certificate_that_is_renewed_on_disk_is_shown_next() {
    let service = service("project/test");
    let [ours, before, after] = ["ours", "before", "after"].map(|name| Authority::new(name).unwrap());
    let server = ours.issue(|_| {}).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    // As a tool that renews them does, so that no reader finds half a file.
    let write = |name: &str, text: &str| {
        fs::write(path("new"), text).unwrap();
        fs::rename(path("new"), path(name)).unwrap();
    };
    let renew = |authority: &Authority| {
        let own = authority.issue(|_| {}).unwrap();
        write("own.key", &own.key);
        write("own.pem", &own.certificate);
    };
    for (name, text) in [("s.pem", &server.certificate), ("s.key", &server.key), ("ca.pem", &ours.pem)] {
        write(name, text);
    }
    write("clients.pem", &before.pem);
    renew(&before);
    let setup = Cluster::etcd().arg(format!("--cert-file={}", path("s.pem")));
    let setup = setup.arg(format!("--key-file={}", path("s.key"))).arg("--client-cert-auth");
    let cluster = setup.arg(format!("--trusted-ca-file={}", path("clients.pem"))).start().await;

    let tls = RegistryTls::with_ca_file(path("ca.pem")).unwrap();
    let tls = tls.identity_files(path("own.pem"), path("own.key")).unwrap();
    let etcd = Arc::new(builder(cluster.addresses()).tls(tls).server_name(NAME).build().unwrap());
    let registration = register(etcd.clone(), &service, instance("a", 1), RegistrationSettings::default());
    let watcher = Watcher::new(etcd, &service);
    watcher.until_ids(SOON, "before", &["a"]).await;
    // From now on etcd trusts others.
    write("clients.pem", &after.pem);
    cluster.restart().await;
    let refused = |state: &RegistrationState| {
        matches!(state, RegistrationState::Lost { error, .. } if {
            error.chain().contains("client certificate that it trusts") || error.chain().contains("fatal alert")
        })
    };
    timeout(SOON, registration.watch_state().wait_for(refused)).await.expect("the former one is refused").unwrap();
    watcher.until(SOON, "out of reach", |seen| seen.stale.is_some()).await;
    renew(&after);
    registration.wait_registered(Duration::from_secs(10)).await.unwrap();
    let back = |seen: &Seen| seen.stale.is_none() && seen.ids() == ["a"];
    watcher.until(Duration::from_secs(10), "in reach again", back).await;
    registration.deregister().await.unwrap();
}

fn denied<T>(what: &str, result: Result<T, Error>) {
    let error = result.err().unwrap_or_else(|| panic!("{what} is permitted"));
    assert_eq!(error.kind(), ErrorKind::Denied, "{what}: {error:?}");
}

/// As they stand in the guide's page.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn the_rights_that_the_guide_gives_are_enough_and_no_more() {
    let (servers, service) = (Servers::one().await, service("project/test"));
    let passwords =
        [("ROOT_PASSWORD", "r"), ("SERVER_PASSWORD", "s"), ("CLIENT_PASSWORD", "c"), ("OPERATOR_PASSWORD", "o")];
    let endpoints = servers.cluster.address().to_string();
    let variables: Vec<_> = [("ETCDCTL_ENDPOINTS", endpoints.as_str())].into_iter().chain(passwords).collect();
    page::run("who-may-write-what.md", "etcd", &variables, &[]).await;
    let of = |user: &str, password: &str| servers.builder().user(user, password).build().unwrap();
    let (server, client) = (of("project-test-7", "s"), of("project-test-client", "c"));
    let (operator, anonymous) = (of("project-test-operator", "o"), servers.builder().build().unwrap());
    let own = instance("10.0.0.7:50051", 1);

    let mut lease = server.register(&service, &own).await.unwrap();
    lease.update(&own.clone().with_weight(2)).await.unwrap();
    let lost = timeout(common::TTL * 2, lease.lost()).await;
    assert!(lost.is_err(), "it is kept alive: {lost:?}");
    operator.put_service_config(&service, Some("{}")).await.unwrap();
    let seen = next(&mut client.watch(&service)).await.unwrap();
    assert_eq!((seen.instances[0].weight(), seen.config.as_deref()), (2, Some(&b"{}"[..])));

    denied("a server's record under another id", server.register(&service, &instance("10.0.0.8:50051", 1)).await);
    denied("a server's config", server.put_service_config(&service, None).await);
    for (who, etcd) in [("a client", &client), ("an operator", &operator), ("an anonymous client", &anonymous)] {
        denied(&format!("{who}'s record"), etcd.register(&service, &own).await);
    }
    denied("a client's config", client.put_service_config(&service, None).await);
    denied("an anonymous watch", next(&mut anonymous.watch(&service)).await);
    lease.revoke().await.unwrap();
}
