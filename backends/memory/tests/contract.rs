//! The memory backend against the contracts of the traits, and its faults.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not their helpers")]

use callboard_core::{
    Error, ErrorKind, Incarnation, Instance, Registry, Resolver, Result, ServiceName, Snapshot, Snapshots, encode,
};
use callboard_memory::Memory;
use futures_util::{FutureExt, StreamExt};

fn service() -> ServiceName {
    "project/test".parse().unwrap()
}

fn instance(id: &str, incarnation: u64) -> Instance {
    let address = "127.0.0.1:1".parse().unwrap();
    Instance::new(id, address).unwrap().with_incarnation(Incarnation::from_micros(incarnation))
}

/// What the stream yields without waiting, if it does.
fn item(watch: &mut Snapshots) -> Option<Option<Result<Snapshot>>> {
    watch.next().now_or_never()
}

/// The set that the stream yields without waiting, as `id=weight`.
fn set(watch: &mut Snapshots) -> Vec<String> {
    let snapshot = item(watch).expect("an item").expect("not the end").expect("a set");
    snapshot.instances.iter().map(|i| format!("{}={}", i.id(), i.weight())).collect()
}

fn down() -> Option<Error> {
    Some(Error::new(ErrorKind::Unavailable, "down"))
}

#[tokio::test]
async fn the_first_set_comes_even_if_it_is_empty() {
    let memory = Memory::default();
    let mut watch = memory.watch(&service());
    assert!(set(&mut watch).is_empty());
    assert!(item(&mut watch).is_none());
}

#[tokio::test]
async fn watchers_see_each_change_and_other_services_keep_apart() {
    let memory = Memory::default();
    let mut watch = memory.watch(&service());
    let mut lease = memory.clone().register(&service(), &instance("a", 1)).await.unwrap();
    let _other = memory.register(&"project/other".parse().unwrap(), &instance("x", 1)).await.unwrap();
    assert_eq!(set(&mut watch), ["a=1"]);
    lease.update(&instance("a", 1).with_weight(5)).await.unwrap();
    assert_eq!(set(&mut watch), ["a=5"]);
    assert!(lease.lost().now_or_never().is_none());
    lease.revoke().await.unwrap();
    assert!(set(&mut watch).is_empty());
}

#[tokio::test]
async fn a_dropped_lease_takes_its_entry_with_it_at_once() {
    let memory = Memory::default();
    let lease = memory.register(&service(), &instance("a", 1)).await.unwrap();
    drop(lease);
    assert!(set(&mut memory.watch(&service())).is_empty());
}

#[tokio::test]
async fn the_same_or_a_newer_incarnation_replaces_and_an_older_one_conflicts() {
    let memory = Memory::default();
    let mut first = memory.register(&service(), &instance("a", 5)).await.unwrap();
    let mut second = memory.register(&service(), &instance("a", 5).with_weight(2)).await.unwrap();
    assert_eq!(first.lost().await.kind(), ErrorKind::Conflict, "of two equal ones the later one stays");
    let third = memory.register(&service(), &instance("a", 6).with_weight(3)).await.unwrap();
    assert_eq!(second.lost().await.kind(), ErrorKind::Conflict);
    assert_eq!(second.update(&instance("a", 5)).await.unwrap_err().kind(), ErrorKind::Conflict);
    let refused = memory.register(&service(), &instance("a", 5)).await.unwrap_err();
    assert_eq!(
        (refused.kind(), refused.backend(), refused.service()),
        (ErrorKind::Conflict, Some("memory"), Some(&service()))
    );
    // The late end of older leases does not affect the newer entry.
    first.revoke().await.unwrap();
    drop(second);
    assert_eq!(set(&mut memory.watch(&service())), ["a=3"]);
    third.revoke().await.unwrap();
    assert!(set(&mut memory.watch(&service())).is_empty());
}

#[tokio::test]
async fn a_lease_whose_entry_is_deleted_is_lost_and_stays_lost() {
    let memory = Memory::default();
    let mut lease = memory.register(&service(), &instance("a", 1)).await.unwrap();
    memory.put(&service(), "a", None);
    memory.put(&service(), "a", Some(encode(&instance("a", 1)).as_bytes()));
    assert_eq!(lease.lost().await.kind(), ErrorKind::Lost);
    assert_eq!(lease.update(&instance("a", 1)).await.unwrap_err().kind(), ErrorKind::Lost);
    lease.revoke().await.expect("gone already is no error");
    assert_eq!(set(&mut memory.watch(&service())), ["a=1"]);
}

#[tokio::test]
async fn garbage_is_skipped_and_counted_and_can_be_replaced() {
    let memory = Memory::default();
    memory.put(&service(), "a", Some(b"\xff"));
    let snapshot = item(&mut memory.watch(&service())).unwrap().unwrap().unwrap();
    assert_eq!((snapshot.instances.len(), snapshot.skipped), (0, 1));
    let _lease = memory.register(&service(), &instance("a", 0)).await.unwrap();
    assert_eq!(set(&mut memory.watch(&service())), ["a=1"]);
}

#[tokio::test]
async fn while_it_is_down_calls_and_watches_fail_and_leases_hold() {
    let memory = Memory::default();
    let (mut before, mut unpolled) = (memory.watch(&service()), memory.watch(&service()));
    let mut lease = memory.register(&service(), &instance("a", 1)).await.unwrap();
    assert_eq!(set(&mut before), ["a=1"]);
    memory.faults(|faults| faults.down = down());
    assert!(item(&mut before).unwrap().unwrap().is_err());
    assert!(item(&mut before).unwrap().is_none(), "the error ends the watch");
    assert!(item(&mut memory.watch(&service())).unwrap().unwrap().is_err());
    assert!(memory.register(&service(), &instance("b", 1)).await.is_err());
    assert!(lease.update(&instance("a", 1).with_weight(2)).await.is_err());
    assert!(lease.lost().now_or_never().is_none());
    memory.faults(|faults| faults.down = None);
    assert!(item(&mut unpolled).unwrap().unwrap().is_err(), "an outage that is over ends it too");
    assert_eq!(set(&mut memory.watch(&service())), ["a=1"]);
    memory.faults(|faults| faults.down = down());
    assert!(lease.revoke().await.is_err());
}

#[tokio::test]
async fn while_it_hangs_calls_wait() {
    let memory = Memory::default();
    memory.faults(|faults| faults.hang = true);
    let register = tokio::spawn({
        let memory = memory.clone();
        async move { memory.register(&service(), &instance("a", 1)).await }
    });
    tokio::task::yield_now().await;
    assert!(!register.is_finished());
    memory.faults(|faults| faults.hang = false);
    let _lease = register.await.unwrap().unwrap();
    assert_eq!(set(&mut memory.watch(&service())), ["a=1"]);
}

#[tokio::test]
async fn updates_that_are_held_back_come_as_one_when_released() {
    let memory = Memory::default();
    let mut watch = memory.watch(&service());
    memory.faults(|faults| faults.hold = true);
    assert!(item(&mut watch).is_none(), "not even the first set");
    let mut lease = memory.register(&service(), &instance("a", 1)).await.unwrap();
    lease.update(&instance("a", 1).with_weight(2)).await.unwrap();
    assert!(item(&mut watch).is_none());
    memory.faults(|faults| faults.hold = false);
    assert_eq!(set(&mut watch), ["a=2"]);
    assert!(item(&mut watch).is_none());
}

#[tokio::test]
async fn a_watch_keeps_nothing_alive() {
    let memory = Memory::default();
    let mut watch = memory.watch(&service());
    assert!(set(&mut watch).is_empty());
    drop(memory);
    assert!(item(&mut watch).unwrap().is_none());
}
