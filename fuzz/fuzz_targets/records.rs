//! What stands in a registry under an instance's key: etcd's, ZooKeeper's, a file's or memory's, as `encode` writes it, or
//! not. The first line of an input is the id that the key names, the rest is the record.
#![no_main]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use callboard_core::{Incarnation, Instance, Record, RecordReader, ServiceName, decode, encode, holder};
use callboard_fuzz::{SHORT, assert_checked, assert_short, paused, within};
use libfuzzer_sys::fuzz_target;

const PREFIX: &str = "/callboard";

fuzz_target!(|data: &[u8]| {
    let (id, stored) = data.split_at(data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len()));
    let stored = stored.get(1..).unwrap_or_default();
    let id = &*String::from_utf8_lossy(id);
    within((1 << 20) + 100 * data.len(), || {
        decoded(stored);
        let record = read(id, stored);
        named(id);
        in_etcd(id, stored, &record);
        in_zookeeper(id, stored, &record);
        in_a_file(id);
    });
});

/// What is decoded is good, and is written as it is read.
fn decoded(stored: &[u8]) {
    match decode(stored) {
        Err(error) => assert!(error.chain().len() <= SHORT, "{:.500}", error.chain()),
        Ok(instance) => good(&instance),
    }
}

fn good(instance: &Instance) {
    assert_checked(instance);
    let (written, now) = (encode(instance), SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970"));
    assert_eq!(written.lines().count(), 1, "{written}");
    assert_eq!(&decode(written.as_bytes()).expect("what was written is read"), instance);
    let latest = now + Duration::from_secs(24 * 3_600 + 1);
    assert!(u128::from(instance.incarnation().as_micros()) <= latest.as_micros(), "{}", instance.incarnation());
}

/// The key says who it is; what is said of a record is short; and whoever asks who holds the entry is told the same.
fn read(id: &str, stored: &[u8]) -> Record {
    let mut reader = RecordReader::new("test");
    let record = reader.read(&format!("{PREFIX}/{id}"), id, stored);
    if let Some(remark) = record.remarked() {
        assert_short(&remark.to_string());
    }
    assert_eq!(record.instance().is_none(), holder(id, stored).is_none());
    if let Some(instance) = record.instance() {
        assert_eq!(instance.id(), id);
        good(instance);
        assert_eq!(Some(&**instance), holder(id, stored).as_ref());
        let theirs = decode(stored).expect("it was read").with_id(id).expect("an id");
        assert_eq!(theirs, **instance);
    } else {
        assert!(record.remarked().is_some(), "it is said why a record is skipped");
    }
    let again = reader.read(&format!("{PREFIX}/{id}"), id, stored);
    assert_eq!(again, record);
    record
}

/// An id is safe wherever it becomes a part of a key.
fn named(id: &str) {
    if let Ok(instance) = Instance::new(id, "127.0.0.1:1".parse().expect("an address")) {
        let instance = instance.with_incarnation(Incarnation::from_micros(7));
        let name = callboard_zookeeper::fuzzing::name(&instance);
        assert_eq!(callboard_zookeeper::fuzzing::read(&name), Some((id, instance.incarnation())));
        let entry = callboard_consul::fuzzing::entry_id(&service(), id);
        assert_eq!(callboard_consul::fuzzing::instance_id(&service(), &entry).as_deref(), Some(id));
        let (record, draft) = callboard_file::fuzzing::files(Path::new("/run"), &service(), id);
        let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        assert_eq!(record.parent(), Some(Path::new("/run/project/test")));
        assert_eq!(callboard_file::fuzzing::id(&name(&record)), Some(id));
        assert_eq!(callboard_file::fuzzing::id(&name(&draft)), None);
    }
    if let Some(instance) = callboard_consul::fuzzing::instance_id(&service(), id) {
        assert_eq!(callboard_consul::fuzzing::entry_id(&service(), &instance), id);
    }
}

/// A key below the service's is its entry, its config, or another service's.
fn in_etcd(id: &str, stored: &[u8], record: &Record) {
    let (key, config) = (format!("{PREFIX}/project/test/{id}"), format!("{PREFIX}/project/test/@config"));
    let fold = |events: &[(&[u8], Option<&[u8]>)]| {
        paused(callboard_etcd::fuzzing::fold(PREFIX, &service(), events)).expect("a prefix")
    };
    let put = fold(&[(key.as_bytes(), Some(stored)), (config.as_bytes(), Some(stored))]);
    assert_eq!(put.config.as_deref(), Some(stored));
    let expected: Vec<_> = record.instance().into_iter().filter(|_| !id.contains('/')).cloned().collect();
    assert_eq!(put.instances, expected);
    assert_eq!(put.skipped, usize::from(record.instance().is_none() && !id.contains('/') && id != "@config"));
    let gone = fold(&[(key.as_bytes(), Some(stored)), (key.as_bytes(), None), (b"/other", Some(stored))]);
    assert_eq!(gone, callboard_core::Snapshot::default());
}

/// A node is named by id and incarnation, which count.
fn in_zookeeper(name: &str, stored: &[u8], record: &Record) {
    let Some((id, incarnation)) = callboard_zookeeper::fuzzing::read(name) else { return };
    assert!(callboard_zookeeper::fuzzing::is_part(name));
    let node = RecordReader::new("zookeeper").read_incarnation(name, id, incarnation, stored);
    node.remarked().iter().for_each(|remark| assert_short(&remark.to_string()));
    if let Some(instance) = node.instance() {
        assert_eq!((instance.id(), instance.incarnation()), (id, incarnation.believed()));
        good(instance);
    }
    // The longer name may be too long for an id; the shorter one is then, too, only if it is none for another reason.
    let same = |one: &Arc<Instance>| node.instance().is_some_and(|other| other.address() == one.address());
    assert!(record.instance().is_none_or(|one| same(one) || id.is_empty() || id == "." || id == ".."));
}

/// A file's name is an instance's, or not.
fn in_a_file(name: &str) {
    if let Some(id) = callboard_file::fuzzing::id(name) {
        assert_eq!(format!("@{id}.json"), name);
    }
}

fn service() -> ServiceName {
    "project/test".parse().expect("a name")
}
