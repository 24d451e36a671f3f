//! A registry that holds far more than anybody needs.
#![allow(clippy::unwrap_used, reason = "clippy knows the tests here, but not their helpers")]

use std::sync::Arc;
use std::time::Duration;

use callboard_conformance::Bystander;
use callboard_core::{Instance, ServiceName, WatchSettings, encode, watch};
use callboard_memory::Memory;

const RECORDS: usize = 100_000;
/// For how long another task of the thread may be kept from its turn.
const TURN: Duration = Duration::from_millis(50);
const TRIES: usize = 3;

fn service() -> ServiceName {
    "project/test".parse().unwrap()
}

fn record(number: usize, weight: u32) -> (String, String) {
    let address = format!("10.{}.{}.{}:1", number >> 16, number >> 8 & 255, number & 255).parse().unwrap();
    let instance = Instance::new(format!("i{number}"), address).unwrap().with_weight(weight);
    (instance.id().to_owned(), encode(&instance))
}

/// What others write is written by a thread of its own.
async fn write(memory: &Memory, numbers: std::ops::Range<usize>, weight: u32) {
    let memory = memory.clone();
    let written = tokio::task::spawn_blocking(move || {
        for (id, stored) in numbers.map(|number| record(number, weight)) {
            memory.put(&service(), &id, Some(stored.as_bytes()));
        }
    });
    written.await.unwrap();
}

#[tokio::test]
async fn a_hundred_thousand_records_hold_nobody_up_and_a_part_of_them_counts() {
    let memory = Memory::default();
    write(&memory, 0..RECORDS, 1).await;
    let (bystander, mut waits) = (Bystander::new(), Vec::new());
    for number in 0..TRIES {
        bystander.longest_wait();
        let mut watcher = watch(Arc::new(memory.clone()), &service(), WatchSettings::default());
        let view = watcher.changed().await;
        assert_eq!((view.instances.as_ref().unwrap().len(), view.left_out), (10_000, 90_000));
        // Among a thousand that change is one of each ten that are kept.
        write(&memory, 0..1_000, number as u32 + 2).await;
        let before = watcher.resolution().instances.clone().unwrap();
        let after = watcher.changed().await.instances.clone().unwrap();
        assert_eq!(before.len(), after.len());
        assert!(before.iter().zip(after.iter()).any(|(before, after)| before.weight() != after.weight()));
        drop(watcher);
        waits.push(bystander.longest_wait());
    }
    println!("others were kept from their turn for {waits:?}");
    assert!(waits.iter().min().unwrap() < &TURN, "{waits:?}");
}
