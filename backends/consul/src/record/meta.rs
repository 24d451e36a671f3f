//! The names in an entry's Meta that are callboard's, and what fits into a Meta at all.

use std::collections::BTreeMap;

use callboard_core::{Error, Instance, InstanceKind, Result, ServiceName};

use super::names::listed_name;
use super::weights::held_weight;

/// Where an instance runs. Readable by other tools, and read from what they write.
pub(crate) const ZONE: &str = "zone";
/// All that callboard adds for itself begins so, and is not shown as metadata.
pub(crate) const OURS: &str = "callboard-";
/// The service's exact name, where Consul lists it under another.
pub(crate) const SERVICE: &str = "callboard-service";
/// The exact weight, where Consul cannot hold it.
pub(crate) const WEIGHT: &str = "callboard-weight";
/// `balancer`, for an external balancer.
pub(crate) const KIND: &str = "callboard-kind";
pub(crate) const BALANCER: &str = "balancer";
pub(crate) const INCARNATION: &str = "callboard-incarnation";
/// Tells the claim of one lease from any other on the same entry.
pub(crate) const CLAIM: &str = "callboard-claim";

/// Consul's own limits.
const MOST_PAIRS: usize = 64;
const LONGEST_KEY: usize = 128;
const LONGEST_VALUE: usize = 512;
/// Consul keeps these for itself.
const CONSULS: &str = "consul-";

/// The Meta of an instance's entry.
///
/// # Errors
/// `Invalid`, naming the key, if the instance has metadata that Consul cannot hold.
pub(crate) fn meta(service: &ServiceName, instance: &Instance, claim: &str) -> Result<BTreeMap<String, String>> {
    let mut meta = BTreeMap::new();
    for (key, value) in instance.metadata() {
        if let Some(why) = key_complaint(key) {
            return Err(Error::invalid(format!("metadata key {key:?}: {why}")));
        }
        meta.insert(key.clone(), value.clone());
    }
    let mut ours = |key: &str, value: String| drop(meta.insert(key.to_owned(), value));
    if listed_name(service) != service.as_str() {
        ours(SERVICE, service.to_string());
    }
    if let Some(zone) = instance.zone() {
        ours(ZONE, zone.to_owned());
    }
    if held_weight(instance.weight()) != instance.weight() {
        ours(WEIGHT, instance.weight().to_string());
    }
    if instance.kind() == InstanceKind::Balancer {
        ours(KIND, BALANCER.to_owned());
    }
    ours(INCARNATION, instance.incarnation().to_string());
    ours(CLAIM, claim.to_owned());
    fits(meta)
}

fn fits(meta: BTreeMap<String, String>) -> Result<BTreeMap<String, String>> {
    if let Some((key, value)) = meta.iter().find(|(_, value)| value.len() > LONGEST_VALUE) {
        let (length, why) = (value.len(), format!("Consul holds at most {LONGEST_VALUE}"));
        return Err(Error::invalid(format!("metadata {key:?}: its value is {length} bytes long, and {why}")));
    }
    if meta.len() > MOST_PAIRS {
        let (all, ours) = (meta.len(), meta.keys().filter(|key| key.starts_with(OURS) || *key == ZONE).count());
        return Err(Error::invalid(format!(
            "metadata: {} pairs and {ours} of callboard's own are {all}, and Consul holds at most {MOST_PAIRS}",
            all - ours
        )));
    }
    Ok(meta)
}

fn key_complaint(key: &str) -> Option<&'static str> {
    if key.is_empty() || key.len() > LONGEST_KEY {
        return Some("in Consul a key has 1 to 128 characters");
    }
    if !key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) {
        return Some("in Consul a key has letters, digits, '_' and '-' only");
    }
    if key == ZONE {
        return Some("in Consul this is where the instance's zone stands; set that");
    }
    (key.starts_with(OURS) || key.starts_with(CONSULS)).then_some("a key that begins so is callboard's or Consul's own")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> Instance {
        Instance::new("a", "127.0.0.1:1".parse().unwrap()).unwrap()
    }

    #[test]
    fn what_consul_cannot_hold_is_refused_by_name_and_with_the_reason() {
        let service = "project/test".parse().unwrap();
        let long = "x".repeat(129);
        for (key, value, why) in [
            ("", "", "1 to 128"),
            (long.as_str(), "", "1 to 128"),
            ("a.b", "", "letters"),
            ("ä", "", "letters"),
            ("zone", "", "zone"),
            ("callboard-x", "", "own"),
            ("consul-x", "", "own"),
            ("a", "ä".repeat(257).as_str(), "514 bytes"),
        ] {
            let error = meta(&service, &instance().with_metadata(key, value), "c").unwrap_err().to_string();
            assert!(error.contains(&format!("{key:?}")) && error.contains(why), "{error}");
        }
        let full =
            |pairs: usize| (0..pairs).fold(instance(), |instance, key| instance.with_metadata(format!("k{key}"), ""));
        assert_eq!(meta(&service, &full(61), "c").unwrap().len(), 64);
        let error = meta(&service, &full(62), "c").unwrap_err().to_string();
        assert!(error.contains("62 pairs and 3 of callboard's own are 65"), "{error}");
    }
}
