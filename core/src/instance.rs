//! One running server of a service.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{Address, Error, Result};

/// The highest weight that counts. A larger one, from a registry that anybody can write to, is used as this.
pub const MAX_WEIGHT: u32 = 65_535;

/// One running server of a service, as its registry shows it.
///
/// ```
/// use callboard_core::Instance;
///
/// let instance = Instance::new("a", "10.0.0.7:50051".parse()?)?.weight(3).zone("eu-1").metadata("version", "2.4.0");
/// assert_eq!(instance.weight, 3);
/// # Ok::<(), callboard_core::Error>(())
/// ```
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Unique within its service, and the same after a restart. See [`Instance::new`] for its form.
    pub id: String,
    /// Where it can be reached.
    pub address: Address,
    /// Its share of the calls relative to the others', for balancers that look at it. 1 by default; 0 asks for none.
    pub weight: u32,
    /// Where it runs, for filters that prefer the near. None by default.
    pub zone: Option<String>,
    /// What its owner wants clients to know. Empty by default. Sorted, so that equal sets are stored alike.
    pub metadata: BTreeMap<String, String>,
    /// What answers at the address. A backend by default.
    pub kind: InstanceKind,
    /// When its process started; orders two records of one id. [`Incarnation::of_this_process`] by default.
    pub incarnation: Incarnation,
}

/// What answers at an instance's address.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum InstanceKind {
    /// A server of the service itself.
    #[default]
    Backend,
    /// An external balancer that says where the servers are.
    Balancer,
}

impl Instance {
    /// Makes an instance of weight 1, without zone and metadata, of this process's incarnation.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) if the id is not 1 to 128 characters of `[A-Za-z0-9._:[]-]`: it has to
    /// be safe in a registry's key and in a file's name.
    pub fn new(id: impl Into<String>, address: Address) -> Result<Self> {
        let id = id.into();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:[]-".contains(&b);
        if id.is_empty() || id.len() > 128 || id == "." || id == ".." || !id.bytes().all(allowed) {
            return Err(Error::invalid(format!("instance id {id:?}: expected 1 to 128 of letters, digits and ._:[]-")));
        }
        Ok(Self {
            id,
            address,
            weight: 1,
            zone: None,
            metadata: BTreeMap::new(),
            kind: InstanceKind::default(),
            incarnation: Incarnation::of_this_process(),
        })
    }

    /// Makes an instance whose id is its address (of a Unix socket: with `-` for `/`). Right where one server at a
    /// time holds an address.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) if the address is no valid id: too long, or a path with other characters.
    pub fn at(address: Address) -> Result<Self> {
        Self::new(address.to_string().replace('/', "-"), address)
    }

    /// Sets the weight. 1 by default; above [`MAX_WEIGHT`] it counts as that.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// Sets the zone. None by default.
    #[must_use]
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Adds one entry of metadata, replacing an earlier one of the same key.
    #[must_use]
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Sets what answers at the address. A backend by default.
    #[must_use]
    pub fn kind(mut self, kind: InstanceKind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets the incarnation. This process's by default.
    #[must_use]
    pub fn incarnation(mut self, incarnation: Incarnation) -> Self {
        self.incarnation = incarnation;
        self
    }
}

/// When a process started, in microseconds since 1970: tells a restart from an echo of the past.
///
/// Two records of one instance id are ordered by it, and the newer one is believed. It comes from the system clock:
/// on a host whose clock is set back between two starts by more than the time between them, the older record wins
/// until its lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(u64);

impl Incarnation {
    /// The incarnation of this process: made at the first use, the same ever after.
    pub fn of_this_process() -> Self {
        static THIS: OnceLock<Incarnation> = OnceLock::new();
        *THIS.get_or_init(Self::fresh)
    }

    /// A new incarnation, later than each one that this process has made before. For a server that is restarted
    /// within one process, and for tests.
    pub fn fresh() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64);
        let later = |last: u64| Some(now.max(last + 1));
        // `fetch_update` returns the former value, and `later` never declines.
        let last = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, later).unwrap_or(0);
        Self(now.max(last + 1))
    }

    /// The incarnation of a record that somebody else wrote. 0 stands for "not known" and is older than any other.
    pub fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970.
    pub fn as_micros(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_are_no_safe_key_are_refused() {
        for id in ["", ".", "..", "a/b", "a b", "ä", "a\n", &"x".repeat(129)] {
            let address = "127.0.0.1:1".parse().expect("an address");
            let error = Instance::new(id, address).expect_err(id).to_string();
            assert!(error.contains(&format!("{id:?}")), "{error}");
        }
    }

    #[test]
    fn an_address_is_an_id() {
        for (address, id) in [("[::1]:80", "[::1]:80"), ("unix:/run/a.sock", "unix:-run-a.sock")] {
            assert_eq!(Instance::at(address.parse().expect(address)).expect(address).id, id);
        }
    }

    #[test]
    fn incarnations_only_grow() {
        let made: Vec<_> = (0..1000).map(|_| Incarnation::fresh()).collect();
        assert!(made.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(Incarnation::of_this_process(), Incarnation::of_this_process());
    }
}
