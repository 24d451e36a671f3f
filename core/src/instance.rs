//! One running server of a service.

use std::collections::BTreeMap;

use crate::{Address, Error, ErrorKind, Incarnation, Result, short};

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
        check_id(&id)?;
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

    /// Makes an instance whose id is its address, with `-` for the `/` of a Unix socket and for the `%` before an IPv6
    /// address's zone. Right where one server at a time holds an address.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) if the address is no valid id: too long, or a path with other characters.
    pub fn at(address: Address) -> Result<Self> {
        Self::new(address.to_string().replace(['/', '%'], "-"), address)
    }

    /// Whether it can stand in a registry: its id is as [`new`](Self::new) asks for, and its address as [`Address`] does.
    /// The fields are public, so that an instance that was changed after it was made may be neither.
    ///
    /// [`announce`](crate::announce) asks it, and so does a backend's `register` and `update` before an id becomes part
    /// of a key.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the field and what is in it.
    pub fn check(&self) -> Result<()> {
        check_id(&self.id)?;
        self.address.check().map_err(|error| Error::invalid(format!("instance {:?}: {}", self.id, error.message())))
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

    /// With this process's incarnation, if it has none that is known.
    pub(crate) fn of_known_incarnation(self) -> Self {
        if self.incarnation.as_micros() == 0 { self.incarnation(Incarnation::of_this_process()) } else { self }
    }

    /// Sets the incarnation. This process's by default.
    #[must_use]
    pub fn incarnation(mut self, incarnation: Incarnation) -> Self {
        self.incarnation = incarnation;
        self
    }
}

fn check_id(id: &str) -> Result<()> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._:[]-".contains(&b);
    if id.is_empty() || id.len() > 128 || id == "." || id == ".." || !id.bytes().all(allowed) {
        return Err(Error::invalid(format!(
            "instance id {:?}: expected 1 to 128 of letters, digits and ._:[]-",
            short(id)
        )));
    }
    Ok(())
}

/// The error of a claim whose entry is another's: of kind [`Conflict`](crate::ErrorKind::Conflict), with the id, where the
/// other is, and both incarnations. For backends, so that all say the same.
///
/// ```
/// use callboard_core::{ErrorKind, Incarnation, Instance, conflict};
///
/// let there = Instance::new("a", "10.0.0.8:50051".parse()?)?.incarnation(Incarnation::from_micros(9));
/// let error = conflict(Incarnation::from_micros(7), &there);
/// assert_eq!(error.kind(), ErrorKind::Conflict);
/// assert_eq!(error.message(), "the id \"a\" is taken by 10.0.0.8:50051, of incarnation 9; this one is of incarnation 7");
/// # Ok::<(), callboard_core::Error>(())
/// ```
pub fn conflict(mine: Incarnation, there: &Instance) -> Error {
    let Instance { id, address, incarnation, .. } = there;
    let (id, address) = (short(id), address.to_string());
    let message = format!(
        "the id {id:?} is taken by {}, of incarnation {incarnation}; this one is of incarnation {mine}",
        short(&address)
    );
    Error::new(ErrorKind::Conflict, message)
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
    fn what_was_changed_after_it_was_made_is_checked_again() {
        let good = Instance::at("127.0.0.1:1".parse().expect("an address")).expect("an id");
        good.check().expect("it was not changed");
        let id = Instance { id: "../a".to_owned(), ..good.clone() };
        assert!(id.check().expect_err("a path").message().starts_with("instance id \"../a\""));
        for (address, why) in [
            (Address::Unix("relative".into()), "absolute"),
            (Address::UnixAbstract("a\nb".to_owned()), "control"),
            (std::net::SocketAddr::from(([0, 0, 0, 0], 80)).into(), "listens"),
            (std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into(), "port 0"),
        ] {
            let error = Instance { address, ..good.clone() }.check().expect_err(why).to_string();
            assert!(error.starts_with("instance \"127.0.0.1:1\": address") && error.contains(why), "{error}");
        }
    }

    #[test]
    fn an_address_is_an_id() {
        for (address, id) in [
            ("[::1]:80", "[::1]:80"),
            ("[fe80::1%eth0]:80", "[fe80::1-eth0]:80"),
            ("unix:/run/a.sock", "unix:-run-a.sock"),
            ("unix-abstract:a/b", "unix-abstract:a-b"),
        ] {
            assert_eq!(Instance::at(address.parse().expect(address)).expect(address).id, id);
        }
    }
}
