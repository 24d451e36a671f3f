//! Changes that etcd does not take, of entries that are fine.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not what they call")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use callboard_core::{
    Error, ErrorKind, Instance, Lease, RegistrationSettings, RegistrationState, Registry, ServiceName, register,
};
use callboard_servers::Cluster;
use common::users::{APP, PASSWORD};
use common::{SOON, Servers, TTL, instance, key, service};
use etcd_client::{AlarmAction, AlarmOptions, AlarmType, Client, CompactionOptions};
use futures_util::future::{join_all, select_all};
use tokio::time::{Instant, timeout};

/// An entry, of which a change is refused, as it was before: the claim stands, and nothing has been written.
async fn stands(lease: &mut dyn Lease, client: &mut Client, service: &ServiceName) {
    let lost = timeout(TTL * 3 / 2, lease.lost()).await;
    assert!(lost.is_err(), "{lost:?}");
    let there = client.get(key(service, "a"), None).await.unwrap();
    assert_eq!(there.kvs()[0].version(), 1, "it is the same entry, and as it was");
}

/// The same lease has changed it.
async fn changed(client: &mut Client, service: &ServiceName) {
    let there = client.get(key(service, "a"), None).await.unwrap();
    assert_eq!(there.kvs()[0].version(), 2, "it is the same entry");
}

fn heavier() -> Instance {
    instance("a", 1).with_weight(7)
}

async fn is_refused(lease: &mut dyn Lease, change: &Instance, kind: ErrorKind, why: &str) -> Error {
    let error = timeout(SOON, lease.update(change)).await.expect("in time").unwrap_err();
    println!("{}", error.chain());
    assert_eq!(error.kind(), kind, "{error:?}");
    assert!(error.chain().contains(why) && error.backend() == Some("etcd"), "{}", error.chain());
    error
}

/// Fills etcd until it takes no more.
async fn fill(client: &mut Client) {
    while client.put("filling", "x".repeat(1 << 20), None).await.is_ok() {}
}

/// Makes room again, as an operator would.
async fn make_room(client: &mut Client) {
    let now = client.get("filling", None).await.unwrap().header().unwrap().revision();
    client.compact(now, Some(CompactionOptions::new().with_physical())).await.unwrap();
    client.defragment().await.unwrap();
    for alarm in client.alarm(AlarmAction::Get, AlarmType::None, None).await.unwrap().alarms() {
        let mut of_member = AlarmOptions::new();
        of_member.with_member(alarm.member_id());
        client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, Some(of_member)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn an_etcd_that_is_full_keeps_what_it_has() {
    let servers = Servers::of(Cluster::etcd().arg("--quota-backend-bytes=16777216"), TTL).await;
    let (etcd, service, mut client) = (servers.etcd(), service("project/test"), servers.client().await);
    let mut lease = etcd.register(&service, &instance("a", 1)).await.unwrap();
    let settings = RegistrationSettings::default();
    let registration = register(Arc::new(etcd.clone()), &service, instance("b", 2), settings);
    registration.wait_registered(SOON).await.unwrap();
    fill(&mut client).await;
    let begun = Instant::now();
    is_refused(lease.as_mut(), &heavier(), ErrorKind::Unavailable, "disk quota is used up").await;
    assert!(begun.elapsed() < Duration::from_millis(100), "asked again although it is full: {:?}", begun.elapsed());
    registration.update(|instance| instance.set_weight(9));
    let mut state = registration.watch_state();
    let pending = |state: &RegistrationState| matches!(state, RegistrationState::Registered { pending: Some(error), .. } if error.kind() == ErrorKind::Unavailable);
    timeout(SOON, state.wait_for(pending)).await.expect("it is shown that a change is pending").unwrap();
    stands(lease.as_mut(), &mut client, &service).await;
    make_room(&mut client).await;
    lease.update(&heavier()).await.unwrap();
    changed(&mut client, &service).await;
    let published = |state: &RegistrationState| matches!(state, RegistrationState::Registered { pending: None, .. });
    timeout(SOON, state.wait_for(published)).await.expect("what was pending is published").unwrap();
    let there = client.get(key(&service, "b"), None).await.unwrap();
    assert!(there.kvs()[0].value_str().unwrap().contains(r#""weight":9"#) && there.kvs()[0].version() == 2);
    lease.revoke().await.unwrap();
    registration.deregister().await.unwrap();
}

/// etcd does not renew a lease for a user that may not write the keys that are attached to it. All leases are kept
/// alive on one stream, which etcd ends then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn who_may_not_write_one_service_any_more_keeps_the_others() {
    let (servers, service) = (Servers::guarded().await, service("project/test"));
    let (app, mut root) = (servers.builder().user(APP, PASSWORD).build().unwrap(), servers.root().await);
    servers.forbid(APP).await;
    for permitted in [&service, &common::service("others")] {
        servers.permit_service(APP, permitted).await;
    }
    // All at one moment, so that all are kept alive at one moment, too.
    let names = (0..60).map(|n| common::service(&format!("others/{n}"))).chain([service.clone()]);
    let registering = names.map(|name| {
        let app = app.clone();
        async move { app.register(&name, &instance("a", 1)).await.unwrap() }
    });
    let mut others = join_all(registering).await;
    let mut lease = others.pop().unwrap();
    servers.forbid_service(APP, &service).await;
    is_refused(lease.as_mut(), &heavier(), ErrorKind::Denied, "write permission").await;
    let any_other = select_all(others.iter_mut().map(|other| other.lost()));
    let lost = async { timeout(TTL * 2, lease.lost()).await.expect("nothing keeps it alive") };
    let any_other = async { timeout(TTL * 3, any_other).await.map(|(error, ..)| error) };
    let (lost, other) = tokio::join!(lost, any_other);
    assert!(other.is_err(), "another is lost: {other:?}");
    println!("{}", lost.chain());
    assert_eq!(lost.kind(), ErrorKind::Lost, "{lost:?}");
    assert!(lost.chain().contains("permission denied"), "it does not say why: {}", lost.chain());
    // With its rights it can be registered again, and is kept alive beside the others.
    servers.permit_service(APP, &service).await;
    let mut lease = app.register(&service, &instance("a", 1)).await.unwrap();
    stands(lease.as_mut(), &mut root, &service).await;
    for lease in others.into_iter().chain([lease]) {
        lease.revoke().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs etcd: make test"]
async fn a_record_that_is_too_large_leaves_the_one_that_is_there() {
    let servers = Servers::of(Cluster::etcd().arg("--max-request-bytes=10000"), TTL).await;
    let (etcd, service, mut client) = (servers.etcd(), service("project/test"), servers.client().await);
    let mut lease = etcd.register(&service, &instance("a", 1)).await.unwrap();
    let large = |bytes| heavier().with_metadata("note", "x".repeat(bytes));
    // What is a little too large, etcd itself refuses; what is far too large, gRPC within etcd.
    is_refused(lease.as_mut(), &large(10_000), ErrorKind::Invalid, "request is too large").await;
    is_refused(lease.as_mut(), &large(4 << 20), ErrorKind::Invalid, "message larger than max").await;
    stands(lease.as_mut(), &mut client, &service).await;
    lease.update(&heavier()).await.unwrap();
    changed(&mut client, &service).await;
    lease.revoke().await.unwrap();
}
