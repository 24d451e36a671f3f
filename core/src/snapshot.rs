//! One complete set of instances.

use std::sync::Arc;

use crate::{Instance, Service, decode};

/// Who is on the board of one service at one moment: a complete set, not a change.
///
/// Order is the registry's own and is kept for balancers that care for it. Duplicates may be there; the supervision
/// removes them.
///
/// Instances are shared, so that a backend that keeps what it has heard hands out a set of thousands for the price of
/// their pointers.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The instances that could be read.
    pub instances: Vec<Arc<Instance>>,
    /// How many records stood beside them and could not be read.
    pub skipped: usize,
    /// The service's config, as it stands in the registry beside the instances: gRPC's service config JSON, if it is not
    /// garbage. None if there is none. A backend does not read it; [`ServiceConfig::parse`](crate::ServiceConfig::parse)
    /// does.
    pub config: Option<Arc<[u8]>>,
}

impl Snapshot {
    /// A set in which every record could be read.
    pub fn new(instances: impl IntoIterator<Item = impl Into<Arc<Instance>>>) -> Self {
        Self { instances: instances.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Reads a set of stored records, as [`encode`](crate::encode) writes them. One that cannot be read is skipped,
    /// counted, and logged with its key; it never fails the set.
    ///
    /// `key` is what a person would look for in the registry.
    pub fn from_records<K, V>(backend: &str, service: &Service, records: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: AsRef<str>,
        V: AsRef<[u8]>,
    {
        let mut snapshot = Self::default();
        for (key, stored) in records {
            match decode(stored.as_ref()) {
                Ok(instance) => snapshot.instances.push(Arc::new(instance)),
                Err(error) => {
                    snapshot.skipped += 1;
                    tracing::warn!(backend, %service, key = key.as_ref(), error = error.chain(), "record skipped");
                }
            }
        }
        snapshot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_beside_good_records_is_skipped_and_counted() {
        let service = Service::new("s").expect("a name");
        let records = [
            ("good", r#"{"v":1,"id":"a","address":"127.0.0.1:1"}"#.as_bytes()),
            ("garbage", b"\xff\xfe"),
            ("later", br#"{"v":9,"id":"b","address":"127.0.0.1:2"}"#),
        ];
        let snapshot = Snapshot::from_records("test", &service, records);
        assert_eq!(snapshot.skipped, 2);
        assert_eq!(snapshot.instances.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), ["a"]);
    }
}
