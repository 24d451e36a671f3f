//! Records: large, many, broken, and others'.

use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use callboard::InstanceKind;
use rustix::fs::{FlockOperation, flock};
use tokio::task::JoinHandle;

use crate::scene::Scene;
use crate::trial::Trial;

const LONG: usize = (1 << 20) - 200;

fn path(scene: &Scene, id: &str) -> PathBuf {
    let folder = scene.root().join(scene.service.as_str());
    fs::create_dir_all(&folder).unwrap();
    folder.join(format!("@{id}.json"))
}

/// Writes a record, which counts for as long as what is returned is held.
fn put(scene: &Scene, id: &str, stored: &str) -> File {
    let draft = scene.root().join("draft");
    fs::write(&draft, stored).unwrap();
    let file = File::open(&draft).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    fs::rename(&draft, path(scene, id)).unwrap();
    file
}

/// What is done until it is dropped.
struct Going(JoinHandle<()>);

impl Drop for Going {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Records of a megabyte each, of which every byte could be kept: twice as many as are.
#[test]
fn records_of_a_megabyte() {
    let trial = Trial { growth: 192, lines: 150, ..Trial::of("records::records_of_a_megabyte") };
    trial.run(async |scene| {
        let record = |number: usize| {
            let (address, note) = (format!("127.0.0.1:{}", 1 + number % 9), "x".repeat(LONG));
            format!(r#"{{"v":1,"id":"large-{number}","address":"{address}","metadata":{{"note":"{note}"}}}}"#)
        };
        let held: Vec<_> = (0..150).map(|number| put(scene, &format!("large-{number}"), &record(number))).collect();
        held
    });
}

/// Records of a megabyte that cannot be read, beside one that changes all the time: each is said once, shortly.
#[test]
fn broken_records_beside_one_that_changes() {
    let trial = Trial { lines: 150, ..Trial::of("records::broken_records_beside_one_that_changes") };
    trial.run(async |scene| {
        let long = "x".repeat(LONG);
        for number in 0..60 {
            let broken = format!(r#"{{"v":1,"id":"broken-{number}","address":"h:1","kind":"{long}"}}"#);
            drop(put(scene, &format!("broken-{number}"), &broken));
        }
        let (registry, service) = (scene.registry(), scene.service.clone());
        let changes = tokio::spawn(async move {
            let instance = callboard::Instance::new("changes", "127.0.0.1:9".parse().unwrap()).unwrap();
            let mut lease = registry.register(&service, &instance).await.unwrap();
            for weight in 1.. {
                lease.update(&instance.clone().with_weight(weight)).await.unwrap();
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Going(changes)
    });
}

/// A record that stands under a key of its own, with the id of a server that is there.
#[test]
fn a_record_with_anothers_id() {
    Trial::of("records::a_record_with_anothers_id").run(async |scene| {
        scene.raw("victim", |peer| callboard_raw::serve("victim", peer)).await;
        scene.register("other", "127.0.0.1:9".parse().unwrap(), InstanceKind::Backend).await;
        put(scene, "zz", &format!(r#"{{"v":1,"id":"victim","address":"127.0.0.1:9","incarnation":{}}}"#, u64::MAX))
    });
}
