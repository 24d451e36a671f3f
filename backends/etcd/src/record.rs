//! The keys, and what identifies a stored value: `<prefix>/<service>/<id>` is an instance, `<prefix>/<service>/@config`
//! the service's config.

use callboard_core::{CONFIG_NAME, Error, Result, ServiceName};
use etcd_client::proto::PbKeyValue;

/// The prefix of callboard's keys, if none is set.
pub(crate) const DEFAULT_PREFIX: &str = "/callboard";

/// How long a prefix may be, in bytes.
const LONGEST_PREFIX: usize = 255;

/// How etcd numbers the kind of an event that says that a key was deleted. 0 says that it was written.
pub(crate) const DELETE: i32 = 1;

/// Where services are in etcd.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Without a `/` at its end.
    prefix: String,
}

impl Layout {
    /// Checks a prefix. A `/` at its end is taken off.
    pub(crate) fn new(prefix: &str) -> Result<Self> {
        let plain = prefix.trim_end_matches('/');
        let why = if plain.is_empty() {
            "it is empty, and callboard would watch and write all of etcd"
        } else if plain.len() > LONGEST_PREFIX {
            "it is longer than 255 bytes"
        } else if plain.contains(|c: char| c.is_control() || c.is_whitespace()) {
            "it has white space or control characters"
        } else {
            return Ok(Self { prefix: plain.to_owned() });
        };
        Err(Error::invalid(format!("prefix {prefix:?}: {why}")))
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where a service's instances and its config are.
    pub(crate) fn directory(&self, service: &ServiceName) -> Directory {
        Directory(format!("{}/{service}/", self.prefix))
    }

    /// The key of one instance.
    pub(crate) fn key(&self, service: &ServiceName, id: &str) -> String {
        format!("{}/{service}/{id}", self.prefix)
    }
}

/// What all keys of one service begin with. It ends with a `/`.
#[derive(Clone, Debug)]
pub(crate) struct Directory(String);

impl Directory {
    pub(crate) fn start(&self) -> &str {
        &self.0
    }

    /// The first key that is greater than all that begin so: `0` follows `/`.
    pub(crate) fn end(&self) -> String {
        format!("{}0", self.0.trim_end_matches('/'))
    }

    /// The id of the instance of this service that the key is of. None if it is of none: a key with a further `/`
    /// belongs to another service, whose name begins with this one's.
    pub(crate) fn id<'k>(&self, key: &'k [u8]) -> Option<&'k [u8]> {
        let name = key.strip_prefix(self.0.as_bytes())?;
        (!name.contains(&b'/') && name != CONFIG_NAME.as_bytes()).then_some(name)
    }

    /// The key of the service's config. It is within the range of the instances' keys, so that one list and one watch
    /// cover both.
    pub(crate) fn config(&self) -> String {
        format!("{}{CONFIG_NAME}", self.0)
    }

    /// Whether the key is that of the service's config.
    pub(crate) fn is_config(&self, key: &[u8]) -> bool {
        key.strip_prefix(self.0.as_bytes()) == Some(CONFIG_NAME.as_bytes())
    }
}

/// What tells one writing of a key from any other, in this cluster or in one that has taken its place: no two leases
/// ever have the same id. The other numbers are for entries that were written by hand, without a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) revision: i64,
    created: i64,
    version: i64,
    lease: i64,
}

impl Mark {
    pub(crate) fn of(stored: &PbKeyValue) -> Self {
        let (revision, created) = (stored.mod_revision, stored.create_revision);
        Self { revision, created, version: stored.version, lease: stored.lease }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn service(name: &str) -> ServiceName {
        name.parse().expect("a name")
    }

    #[test]
    fn keys_read_as_they_are_written_down() {
        let layout = Layout::new(DEFAULT_PREFIX).expect("a prefix");
        assert_eq!(layout.key(&service("project/test"), "10.0.0.7:50051"), "/callboard/project/test/10.0.0.7:50051");
        let directory = layout.directory(&service("project/test"));
        assert_eq!(
            (directory.start(), directory.end().as_str()),
            ("/callboard/project/test/", "/callboard/project/test0")
        );
        assert_eq!(directory.config(), "/callboard/project/test/@config");
        assert_eq!(Layout::new("/teams/a//").expect("a prefix").prefix(), "/teams/a");
    }

    #[test]
    fn bad_prefixes_are_refused_with_a_reason() {
        for (prefix, why) in [("", "empty"), ("/", "empty"), ("/a b", "white space"), (&"x".repeat(256), "longer")] {
            let error = Layout::new(prefix).expect_err(prefix).to_string();
            assert!(error.contains(why) && error.contains(&format!("{prefix:?}")), "{error}");
        }
    }

    const SEGMENT: &str = "[A-Za-z0-9_-][A-Za-z0-9._-]{0,8}";

    proptest! {
        #[test]
        fn a_key_is_in_its_own_service_and_in_no_other(
            mine in proptest::collection::vec(SEGMENT, 1..4), other in proptest::collection::vec(SEGMENT, 1..4), id in "[A-Za-z0-9_:-]{1,10}",
        ) {
            let layout = Layout::new("/x").expect("a prefix");
            let (mine, other) = (service(&mine.join("/")), service(&other.join("/")));
            let key = layout.key(&mine, &id);
            prop_assert_eq!(layout.directory(&mine).id(key.as_bytes()), Some(id.as_bytes()));
            prop_assert_eq!(layout.directory(&other).id(key.as_bytes()).is_some(), mine == other);
            let directory = layout.directory(&mine);
            prop_assert!(!directory.is_config(key.as_bytes()));
            let config = layout.directory(&other).config();
            prop_assert_eq!(directory.is_config(config.as_bytes()), mine == other);
            prop_assert_eq!(directory.id(config.as_bytes()), None, "a config is no instance, of whatever service");
            for key in [key, directory.config()] {
                prop_assert!(directory.start() < key.as_str() && key.as_str() < directory.end().as_str());
            }
        }

        #[test]
        fn any_key_is_an_instance_or_not_and_never_panics(key in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Layout::new("/x").expect("a prefix").directory(&service("a")).id(&key);
        }
    }
}
