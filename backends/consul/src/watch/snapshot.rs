//! From the entries that Consul lists to a set of instances.

use std::collections::HashMap;

use callboard_core::{Instance, Record, Remark, Result, ServiceName, Snapshot, unbelieved};

use crate::error::BACKEND;
use crate::record::ListedEntry;

/// The instances of a service in what Consul lists under its name. An entry that cannot be read is skipped and counted.
pub(crate) fn snapshot(service: &ServiceName, rows: &[ListedEntry]) -> Snapshot {
    let ours = rows.iter().filter(|row| row.service.is_of(service));
    let mut read: Vec<_> = ours.map(|row| (row, row.instance(service))).collect();
    name_apart(&mut read);
    let mut snapshot = Snapshot::default();
    for (row, instance) in read {
        let key = format!("{} on {}", row.service.id, row.node.name);
        snapshot.add(&match instance {
            Ok(instance) => {
                let remark = row.service.said_incarnation().and_then(unbelieved);
                Record::of(instance).remark(remark.map(|remark| Remark::new(BACKEND, &key, remark)))
            }
            Err(why) => Record::unreadable(BACKEND, &key, &why),
        });
    }
    snapshot
}

/// Puts the node's name in front of an id that several nodes have: other tools give ids that are unique on one node only,
/// such as `web` on every node. Entries of callboard keep their ids; of these the newest incarnation counts.
fn name_apart(read: &mut [(&ListedEntry, Result<Instance>)]) {
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(read.len());
    for instance in read.iter().filter_map(|(_, instance)| instance.as_ref().ok()) {
        *seen.entry(instance.id().to_owned()).or_default() += 1;
    }
    let named = read.iter_mut().filter_map(|(row, instance)| Some((row, instance.as_mut().ok()?)));
    for (row, instance) in named {
        if seen[instance.id()] > 1 && row.service.incarnation().is_none() {
            let name = format!("{}:{}", row.node.name, instance.id());
            if let Ok(named) =
                Instance::new(name, instance.address().clone()).or_else(|_| Instance::at(instance.address().clone()))
            {
                *instance = instance.clone().with_name_of(&named);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn rows(list: &serde_json::Value) -> Vec<ListedEntry> {
        serde_json::from_value(list.clone()).unwrap()
    }

    fn row(id: &str, change: impl FnOnce(&mut serde_json::Value)) -> serde_json::Value {
        let service = json!({"ID": id, "Service": "project-test", "Address": "10.0.0.7", "Port": 1, "Meta": null});
        let mut row = json!({"Node": {"Node": "n", "Address": "10.0.0.1"}, "Service": service});
        change(&mut row["Service"]);
        row
    }

    #[test]
    fn what_cannot_be_read_is_skipped_and_what_is_of_another_service_is_not_counted() {
        let service = "project-test".parse().unwrap();
        let meta = |key: &'static str, value: &'static str| {
            move |row: &mut serde_json::Value| row["Meta"] = json!({key: value})
        };
        let bad = [
            row("port-0", |row| row["Port"] = json!(0)),
            row("port-minus", |row| row["Port"] = json!(-1)),
            row("port-high", |row| row["Port"] = json!(65_536)),
            row("everywhere", |row| row["Address"] = json!("0.0.0.0")),
            row("no-host", |row| row["Address"] = json!("a b")),
            row("relative", |row| row["SocketPath"] = json!("a")),
            row("weight", meta("callboard-weight", "heavy")),
            row("kind", meta("callboard-kind", "other")),
            row("incarnation", meta("callboard-incarnation", "soon")),
        ];
        for row in &bad {
            let read = snapshot(&service, &rows(&json!([row])));
            assert_eq!((read.instances.len(), read.skipped), (0, 1), "{row}");
        }
        let others = [
            row("other-case", |row| row["Service"] = json!("Project-Test")),
            row("other-name", meta("callboard-service", "project/test")),
        ];
        let read = snapshot(&service, &rows(&json!([others[0], others[1], row("good", |_| {})])));
        assert_eq!((read.instances.len(), read.skipped), (1, 0));
    }

    #[test]
    fn the_weight_that_consul_shows_counts_if_it_is_not_what_callboard_has_put_there() {
        for (passing, exact, weight) in
            [(1, "0", 0), (5, "0", 5), (65_535, "70000", 70_000), (9, "70000", 9), (0, "0", 0)]
        {
            let row = row("a", |row| {
                row["Weights"] = json!({"Passing": passing, "Warning": 1});
                row["Meta"] = json!({"callboard-weight": exact});
            });
            assert_eq!(snapshot(&"project-test".parse().unwrap(), &rows(&json!([row]))).instances[0].weight(), weight);
        }
    }

    proptest! {
        #[test]
        fn whatever_an_entry_says_it_is_read_or_skipped(
            id in "\\PC{0,9}|project-test:\\PC{0,9}", address in "\\PC{0,9}|[0-9.:]{7}", port: i32, passing: i64,
            meta in proptest::collection::btree_map("zone|callboard-(kind|weight|incarnation|claim|x)|\\PC{0,5}", "\\PC{0,9}|[0-9]{1,22}", 0..4),
        ) {
            let row = row(&id, |row| {
                row["Address"] = json!(address);
                row["Port"] = json!(port);
                row["Weights"] = json!({"Passing": passing});
                row["Meta"] = json!(meta);
            });
            let read = snapshot(&"project-test".parse().unwrap(), &rows(&json!([row])));
            prop_assert_eq!(read.instances.len() + read.skipped, 1);
        }
    }
}
