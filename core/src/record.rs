//! The stored form of an instance, as every backend of callboard writes it and as people read it in the registry.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Incarnation, Instance, InstanceKind, Result, short};

/// The version that [`encode`] writes and the highest that [`decode`] reads.
const VERSION: u32 = 1;

/// The fields in the order in which they are written. Unknown ones are ignored when read, so that a field can be
/// added without a new version; a new version is for a change that an old reader would misunderstand.
#[derive(Serialize, Deserialize)]
struct Fields {
    v: u32,
    id: String,
    address: String,
    #[serde(default = "one")]
    weight: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Kind::is_backend")]
    kind: Kind,
    #[serde(default)]
    incarnation: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Backend,
    Balancer,
}

impl Kind {
    fn is_backend(&self) -> bool {
        *self == Self::Backend
    }
}

fn one() -> u32 {
    1
}

/// Writes an instance in its stored form: one line of JSON.
///
/// ```
/// use callboard_core::{Incarnation, Instance, encode};
///
/// let instance = Instance::new("a", "10.0.0.7:50051".parse()?)?.with_incarnation(Incarnation::from_micros(7));
/// assert_eq!(encode(&instance), r#"{"v":1,"id":"a","address":"10.0.0.7:50051","weight":1,"incarnation":7}"#);
/// # Ok::<(), callboard_core::Error>(())
/// ```
pub fn encode(instance: &Instance) -> String {
    let record = Fields {
        v: VERSION,
        id: instance.id().to_owned(),
        address: instance.address().to_string(),
        weight: instance.weight(),
        zone: instance.zone().map(str::to_owned),
        metadata: instance.metadata().clone(),
        kind: match instance.kind() {
            InstanceKind::Backend => Kind::Backend,
            InstanceKind::Balancer => Kind::Balancer,
        },
        incarnation: instance.incarnation().as_micros(),
    };
    serde_json::to_string(&record).expect("strings and numbers are always JSON")
}

/// Reads an instance from its stored form.
///
/// Only `v`, `id` and `address` are required. The other fields have the defaults of [`Instance::new`], except the
/// incarnation: it is 0 if it is absent or not [believed](Incarnation::believed). Unknown fields are ignored.
///
/// The id of an entry in a registry is the one in its key, not the one in the record: see
/// [`RecordReader`](crate::RecordReader) and [`holder`](crate::holder).
///
/// # Errors
/// [`Invalid`](crate::ErrorKind::Invalid), if it is not JSON of this form, of a later version, or has a bad id or
/// address. What it quotes is [short](crate::short).
pub fn decode(stored: &[u8]) -> Result<Instance> {
    parse(stored).map(|Stored { instance, incarnation }| instance.with_incarnation(incarnation.believed()))
}

/// What a record says.
pub(crate) struct Stored {
    /// The instance, with an incarnation of 0.
    pub(crate) instance: Instance,
    /// The incarnation in the record, whether or not it is believed.
    pub(crate) incarnation: Incarnation,
}

pub(crate) fn parse(stored: &[u8]) -> Result<Stored> {
    // serde's own error quotes the record, which may be long.
    let unread =
        |error: serde_json::Error| Error::invalid("not a callboard record").with_source(&*short(&error.to_string()));
    let record: Fields = serde_json::from_slice(stored).map_err(unread)?;
    if record.v == 0 || record.v > VERSION {
        return Err(Error::invalid(format!("record of version {}, this callboard reads version {VERSION}", record.v)));
    }
    let mut instance = Instance::new(record.id, record.address.parse()?)?
        .with_weight(record.weight)
        .with_incarnation(Incarnation::from_micros(0))
        .with_kind(match record.kind {
            Kind::Backend => InstanceKind::Backend,
            Kind::Balancer => InstanceKind::Balancer,
        });
    instance.set_zone(record.zone);
    *instance.metadata_mut() = record.metadata;
    Ok(Stored { instance, incarnation: Incarnation::from_micros(record.incarnation) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_written_by_hand_needs_only_id_and_address() {
        let instance = decode(br#"{"v":1,"id":"a","address":"127.0.0.1:1","note":"unknown fields are ignored"}"#)
            .expect("a good record");
        assert_eq!((instance.weight(), instance.incarnation().as_micros()), (1, 0));
        assert_eq!(instance.kind(), InstanceKind::Backend);
    }

    #[test]
    fn bad_records_are_refused_with_a_reason() {
        for (stored, why) in [
            ("", "not a callboard record"),
            ("127.0.0.1:1", "not a callboard record"),
            (r#"{"v":2,"id":"a","address":"127.0.0.1:1"}"#, "version 2"),
            (r#"{"v":1,"id":"a/b","address":"127.0.0.1:1"}"#, "a/b"),
            (r#"{"v":1,"id":"a","address":"0.0.0.0:1"}"#, "0.0.0.0"),
            (r#"{"v":1,"id":"a","address":"127.0.0.1:1","weight":-1}"#, "not a callboard record"),
        ] {
            let error = decode(stored.as_bytes()).expect_err(stored).to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was(
            id in "[A-Za-z0-9._:-]{3,40}", port in 1u16.., weight: u32, zone in proptest::option::of("\\PC{0,20}"),
            metadata in proptest::collection::btree_map("\\PC{0,20}", "\\PC{0,200}", 0..5), incarnation in 0..1u64 << 50, balancer: bool,
        ) {
            let mut instance = Instance::new(id, crate::Address::tcp("h", port)?)?
                .with_weight(weight)
                .with_incarnation(Incarnation::from_micros(incarnation));
            instance.set_zone(zone);
            *instance.metadata_mut() = metadata;
            let kind = if balancer { InstanceKind::Balancer } else { InstanceKind::Backend };
            let instance = instance.with_kind(kind);
            prop_assert_eq!(decode(encode(&instance).as_bytes())?, instance);
        }

        #[test]
        fn any_bytes_are_read_or_refused(stored in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&stored);
        }
    }
}
