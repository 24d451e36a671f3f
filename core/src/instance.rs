//! One running server of a service.

use std::collections::BTreeMap;

use crate::{Address, Error, ErrorKind, Incarnation, Result, short};

/// The highest weight that is used. A larger one, which a registry may contain, is used as this.
pub const MAX_WEIGHT: u32 = 65_535;

/// One running server of a service, as its registry shows it.
///
/// ```
/// use callboard_core::Instance;
///
/// let instance = Instance::new("a", "10.0.0.7:50051".parse()?)?.with_weight(3).with_zone("eu-1");
/// assert_eq!(instance.weight(), 3);
/// # Ok::<(), callboard_core::Error>(())
/// ```
///
/// Its id and its address are checked when it is made, and whenever they are changed. So every instance can be stored in
/// any registry. No field can be set without a check:
///
/// ```compile_fail,E0616
/// # let mut instance = callboard_core::Instance::at("10.0.0.7:50051".parse()?)?;
/// instance.id() = "a/b".to_owned();
/// # Ok::<(), callboard_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    id: String,
    address: Address,
    weight: u32,
    zone: Option<String>,
    metadata: BTreeMap<String, String>,
    kind: InstanceKind,
    incarnation: Incarnation,
}

/// What answers at an instance's address.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum InstanceKind {
    /// A server of the service itself.
    #[default]
    Backend,
    /// An external balancer, which lists the servers.
    Balancer,
}

impl Instance {
    /// Makes an instance of weight 1, without zone and metadata, with this process's incarnation.
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
    /// address's zone. Use it where one server at a time has an address.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) if the address is no valid id: too long, or a path with other characters.
    pub fn at(address: Address) -> Result<Self> {
        Self::new(address.to_string().replace(['/', '%'], "-"), address)
    }

    /// The id: unique within its service, and the same after a restart. See [`Instance::new`] for its form.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The address at which it can be reached.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The weight: its share of the calls relative to the others', for balancers that look at it. 1 by default; 0 asks for
    /// no calls.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// The zone in which it runs, for balancers that prefer near instances. None by default.
    pub fn zone(&self) -> Option<&str> {
        self.zone.as_deref()
    }

    /// The metadata: what its owner wants clients to know. Empty by default. Sorted, so that equal maps are stored alike.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// What answers at the address. A backend by default.
    pub fn kind(&self) -> InstanceKind {
        self.kind
    }

    /// The incarnation: when its process started. It orders two records of one id. [`Incarnation::of_this_process`] by
    /// default.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The same with this weight. 1 by default; above [`MAX_WEIGHT`] it counts as that.
    #[must_use]
    pub fn with_weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// The same in this zone.
    #[must_use]
    pub fn with_zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// The same with one more entry of metadata, which replaces an earlier one of the same key.
    #[must_use]
    pub fn with_metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// The same with this kind.
    #[must_use]
    pub fn with_kind(mut self, kind: InstanceKind) -> Self {
        self.kind = kind;
        self
    }

    /// The same with this incarnation.
    #[must_use]
    pub fn with_incarnation(mut self, incarnation: Incarnation) -> Self {
        self.incarnation = incarnation;
        self
    }

    /// The same with this id.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_id(self, id: impl Into<String>) -> Result<Self> {
        let id = id.into();
        check_id(&id)?;
        Ok(Self { id, ..self })
    }

    /// The same with this address.
    #[must_use]
    pub fn with_address(mut self, address: Address) -> Self {
        self.address = address;
        self
    }

    /// Changes the weight. Above [`MAX_WEIGHT`] it counts as that.
    pub fn set_weight(&mut self, weight: u32) {
        self.weight = weight;
    }

    /// Changes the zone.
    pub fn set_zone(&mut self, zone: Option<String>) {
        self.zone = zone;
    }

    /// The metadata, to be changed.
    pub fn metadata_mut(&mut self) -> &mut BTreeMap<String, String> {
        &mut self.metadata
    }

    /// The same with the id and the address of another instance, which were checked when that was made.
    #[must_use]
    pub fn with_name_of(self, other: &Self) -> Self {
        Self { id: other.id.clone(), address: other.address.clone(), ..self }
    }

    /// With this process's incarnation, if it has none that is known.
    pub(crate) fn of_known_incarnation(self) -> Self {
        if self.incarnation.as_micros() == 0 { self.with_incarnation(Incarnation::of_this_process()) } else { self }
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

/// The error of a claim whose entry belongs to another claim: of kind [`Conflict`](crate::ErrorKind::Conflict), with the id,
/// the other's address, and both incarnations. For backends, so that all say the same.
///
/// ```
/// use callboard_core::{ErrorKind, Incarnation, Instance, conflict};
///
/// let there = Instance::new("a", "10.0.0.8:50051".parse()?)?.with_incarnation(Incarnation::from_micros(9));
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
    fn no_change_makes_an_instance_that_cannot_stand_in_a_registry() {
        let good = Instance::at("127.0.0.1:1".parse().expect("an address")).expect("an id");
        assert!(good.clone().with_id("../a").expect_err("a path").message().starts_with("instance id \"../a\""));
        assert_eq!(good.with_id("b").expect("an id").id(), "b");
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
