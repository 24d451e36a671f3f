//! Users and passwords, and TLS.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they call")]

mod common;

use std::fs;
use std::time::Duration;

use callboard_core::{Error, ErrorKind, Registry, RegistryTls, Resolver, Snapshot, Snapshots, Target};
use callboard_etcd::Etcd;
use callboard_servers::Cluster;
use callboard_tls_tests::{Authority, NAME};
use common::{SOON, Servers, builder, instance, service};
use etcd_client::{Client, Permission, PermissionType, RoleRevokePermissionOptions};
use futures_util::StreamExt;
use tokio::time::timeout;

const PASSWORD: &str = "hunter2-is-secret";

async fn next(watch: &mut Snapshots) -> Result<Snapshot, Error> {
    timeout(SOON, watch.next()).await.expect("in time").expect("not the end")
}

/// An etcd that asks for a password, and knows `app`, who may do everything under `/callboard/`.
async fn guarded() -> (Servers, Client) {
    let servers = Servers::one().await;
    let mut client = servers.client().await;
    client.user_add("root", "root", None).await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.user_add("app", PASSWORD, None).await.unwrap();
    client.role_add("board").await.unwrap();
    client.role_grant_permission("board", under_the_prefix()).await.unwrap();
    client.user_grant_role("app", "board").await.unwrap();
    client.auth_enable().await.unwrap();
    let options = etcd_client::ConnectOptions::new().with_user("root", "root");
    let root = Client::connect([servers.cluster.address().to_string()], Some(options)).await.unwrap();
    (servers, root)
}

fn under_the_prefix() -> Permission {
    Permission::new(PermissionType::Readwrite, "/callboard/").with_prefix()
}

fn tells_no_password(error: &Error) {
    let told = format!("{error} {error:?} {}", error.chain());
    assert!(!told.contains("hunter2"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn who_knows_the_password_is_let_in_and_others_are_denied() {
    let ((servers, _root), service) = (guarded().await, service("project/test"));
    let app = servers.builder().user("app", PASSWORD).build().unwrap();
    let mut lease = app.register(&service, &instance("a", 1)).await.unwrap();
    let mut watch = app.watch(&service);
    assert_eq!(next(&mut watch).await.unwrap().instances.len(), 1);
    let lost = timeout(common::TTL * 2, lease.lost()).await;
    assert!(lost.is_err(), "{lost:?}");
    for (etcd, why) in [
        (servers.builder().user("app", "hunter2-is-wrong").build().unwrap(), "wrong user or password"),
        (servers.builder().build().unwrap(), "user"),
        (servers.builder().user("app", PASSWORD).prefix("/elsewhere").build().unwrap(), "permission"),
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
    let ((servers, mut root), service) = (guarded().await, service("project/test"));
    root.user_add("reader", PASSWORD, None).await.unwrap();
    root.role_add("read").await.unwrap();
    let may_read = Permission::new(PermissionType::Read, "/callboard/").with_prefix();
    root.role_grant_permission("read", may_read).await.unwrap();
    root.user_grant_role("reader", "read").await.unwrap();
    let [app, reader] = ["app", "reader"].map(|user| servers.builder().user(user, PASSWORD).build().unwrap());
    app.configure(&service, Some("{}")).await.unwrap();
    let mut watch = reader.watch(&service);
    assert_eq!(next(&mut watch).await.unwrap().config.as_deref(), Some(&b"{}"[..]));
    for (config, what) in [(Some("[]"), "cannot write the config"), (None, "cannot remove the config")] {
        let error = reader.configure(&service, config).await.unwrap_err();
        println!("{}", error.chain());
        assert_eq!((error.kind(), error.service()), (ErrorKind::Denied, Some(&service)), "{error:?}");
        assert!(error.message().contains(what) && error.message().contains("write permission"), "{error}");
        tells_no_password(&error);
    }
    app.configure(&service, None).await.unwrap();
    assert_eq!(next(&mut watch).await.unwrap().config, None, "the refused ones have changed nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn a_token_that_is_lost_or_too_old_is_replaced() {
    let ((servers, mut root), service) = (guarded().await, service("project/test"));
    let app = servers.builder().user("app", PASSWORD).build().unwrap();
    let mut lease = app.register(&service, &instance("a", 1)).await.unwrap();
    let mut watch = app.watch(&service);
    assert_eq!(next(&mut watch).await.unwrap().instances.len(), 1);
    // A token of before a restart is not known afterwards.
    servers.cluster.restart().await;
    let seen = async |watch: &mut Snapshots, weight: u32| {
        while !matches!(next(watch).await, Ok(set) if set.instances.iter().any(|i| i.weight == weight)) {
            *watch = app.watch(&service);
        }
    };
    lease.update(&instance("a", 1).weight(2)).await.unwrap();
    seen(&mut watch, 2).await;
    // One of before a change of permissions is too old afterwards.
    for weight in 3..6 {
        root.role_revoke_permission("board", "/nowhere", None::<RoleRevokePermissionOptions>).await.unwrap_err();
        root.role_add(format!("another-{weight}")).await.unwrap();
        root.user_grant_role("app", format!("another-{weight}")).await.unwrap();
        lease.update(&instance("a", 1).weight(weight)).await.unwrap();
        let mut fresh = app.watch(&service);
        seen(&mut fresh, weight).await;
        seen(&mut watch, weight).await;
    }
    let lost = timeout(Duration::from_secs(1), lease.lost()).await;
    assert!(lost.is_err(), "{lost:?}");
    lease.revoke().await.unwrap();
}

#[tokio::test]
#[ignore = "needs etcd: make test"]
async fn a_password_for_an_etcd_without_users_is_denied_with_the_reason() {
    let servers = Servers::one().await;
    let etcd = servers.builder().user("app", PASSWORD).build().unwrap();
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
    let url = format!("etcd://{}/project/test?ca={ca}&cert={cert}&key={key}&server_name={NAME}", servers.address());
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
