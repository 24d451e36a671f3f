//! What Consul's catalog lists of a service: a list in JSON, of whatever tools have registered.
#![no_main]

use callboard_consul::fuzzing::{entry_id, instance_id, snapshot};
use callboard_core::{ServiceName, decode, encode};
use callboard_fuzz::{assert_checked, assert_short, within};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    within((1 << 20) + 200 * data.len(), || {
        for service in ["project/test", "web"] {
            listed(&service.parse().expect("a name"), data);
        }
    });
});

fn listed(service: &ServiceName, list: &[u8]) {
    let Some((set, rows)) = snapshot(service, list) else { return };
    assert!(set.instances.len() + set.skipped <= rows, "{} and {} of {rows}", set.instances.len(), set.skipped);
    assert!(set.remarks.len() >= set.skipped.min(100));
    set.remarks.iter().for_each(|remark| assert_short(&remark.to_string()));
    for instance in &set.instances {
        assert_checked(instance);
        assert_eq!(decode(encode(instance).as_bytes()).expect("what was written is read"), **instance);
        assert_eq!(instance_id(service, &entry_id(service, instance.id())).as_deref(), Some(instance.id()));
        let ours = |key: &String| key.starts_with("callboard-") || key == "zone";
        assert!(!instance.metadata().keys().any(ours), "{:?}", instance.metadata());
    }
}
