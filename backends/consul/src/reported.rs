//! From the catalog's list to a set of instances.

use std::collections::HashMap;

use callboard_core::{Instance, Service, Snapshot};

use crate::entry::Row;

/// The instances of a service in what Consul lists under its name. An entry that cannot be read is skipped, counted
/// and logged.
pub(crate) fn snapshot(service: &Service, rows: &[Row]) -> Snapshot {
    let mut skipped = 0;
    let mut read = Vec::with_capacity(rows.len());
    for row in rows.iter().filter(|row| row.service.is_of(service)) {
        match row.instance(service) {
            Ok(instance) => read.push((row, instance)),
            Err(error) => {
                skipped += 1;
                let (id, node) = (&row.service.id, &row.node.name);
                tracing::warn!(backend = "consul", %service, id, node, error = error.chain(), "entry skipped");
            }
        }
    }
    name_apart(&mut read);
    let mut snapshot = Snapshot::new(read.into_iter().map(|(_, instance)| instance));
    snapshot.skipped = skipped;
    snapshot
}

/// Other tools give ids that are unique on one node only; `web` on every node is usual. Where several nodes have one,
/// the node's name is put in front. Where callboard has registered one, its incarnation says which is right.
fn name_apart(read: &mut [(&Row, Instance)]) {
    let mut seen: HashMap<String, usize> = HashMap::with_capacity(read.len());
    for (_, instance) in &*read {
        *seen.entry(instance.id.clone()).or_default() += 1;
    }
    for (row, instance) in read {
        if seen[&instance.id] > 1 && row.service.incarnation().is_none() {
            let name = format!("{}:{}", row.node.name, instance.id);
            if let Ok(named) =
                Instance::new(name, instance.address.clone()).or_else(|_| Instance::at(instance.address.clone()))
            {
                instance.id = named.id;
            }
        }
    }
}
