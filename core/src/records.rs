//! Reading the records of a registry: the instance in each, and remarks on it for the log.

use std::fmt;
use std::sync::Arc;

use crate::record::{Stored, parse};
use crate::{Error, Incarnation, Instance, Result, short};

/// How many bytes of one service's records are kept.
const MOST_BYTES: usize = 64 << 20;

/// A record of at most this many bytes is kept even then.
const SMALL: usize = 4 << 10;

/// A remark on one record for the log: that it cannot be read, or that something in it is not believed. It quotes no more
/// than a few hundred characters of the record.
///
/// [`watch`](crate::watch) logs each at level WARN, once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Remark {
    backend: &'static str,
    key: String,
    text: String,
}

impl Remark {
    /// Makes a remark of a backend, by the backend's short name. `key` is the key to look for in the registry.
    pub fn new(backend: &'static str, key: &str, text: impl Into<String>) -> Self {
        let one_line = |text: String| text.replace(char::is_control, " ");
        Self { backend, key: short(key).into_owned(), text: one_line(text.into()) }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}: {}", self.backend, self.key, self.text)
    }
}

/// A record that was read, as a backend keeps it: the instance, if it could be read. None of its bytes are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    instance: Option<Arc<Instance>>,
    remark: Option<Arc<Remark>>,
    bytes: usize,
}

impl Record {
    /// A record that is read already, for a registry whose records are not made by [`encode`](crate::encode).
    pub fn of(instance: Instance) -> Self {
        Self { instance: Some(Arc::new(instance)), remark: None, bytes: 0 }
    }

    /// A record that cannot be read, for this reason.
    pub fn unreadable(backend: &'static str, key: &str, why: &Error) -> Self {
        let remark = Remark::new(backend, key, format!("record skipped: {}", short(&why.chain())));
        Self { instance: None, remark: Some(Arc::new(remark)), bytes: 0 }
    }

    /// The same with a remark, if there is one.
    #[must_use]
    pub fn remark(mut self, remark: Option<Remark>) -> Self {
        self.remark = remark.map(Arc::new).or(self.remark);
        self
    }

    /// The instance. None if the record cannot be read.
    pub fn instance(&self) -> Option<&Arc<Instance>> {
        self.instance.as_ref()
    }

    /// The remark on it.
    pub fn remarked(&self) -> Option<&Arc<Remark>> {
        self.remark.as_ref()
    }
}

/// Reads the records of one service, within a limit on all of them together: once they have 64 MiB, records of more than
/// 4 KiB count as unreadable. So a few large records cannot push out the small ones.
///
/// An instance has the id that its key names, whatever the record says.
///
/// ```
/// use callboard_core::RecordReader;
///
/// let mut reader = RecordReader::new("etcd");
/// let record = reader.read("/callboard/project/test/zz", "zz", br#"{"v":1,"id":"a","address":"10.0.0.7:50051"}"#);
/// assert_eq!(record.instance().map(|instance| instance.id()), Some("zz"));
/// assert!(record.remarked().is_some_and(|remark| remark.to_string().contains("it says that it is \"a\"")));
/// ```
#[derive(Debug)]
pub struct RecordReader {
    backend: &'static str,
    bytes: usize,
}

impl RecordReader {
    /// Makes a reader for a backend, by the backend's short name.
    pub fn new(backend: &'static str) -> Self {
        Self { backend, bytes: 0 }
    }

    /// Reads the record at a key, as [`encode`](crate::encode) writes it. `key` is the key to look for in the registry, and
    /// `id` the instance's id as the key names it.
    pub fn read(&mut self, key: &str, id: &str, stored: &[u8]) -> Record {
        self.read_as(key, id, None, stored)
    }

    /// The same, where the key names the incarnation too.
    pub fn read_incarnation(&mut self, key: &str, id: &str, incarnation: Incarnation, stored: &[u8]) -> Record {
        self.read_as(key, id, Some(incarnation), stored)
    }

    /// Counts a record that was read before and is kept beside those that this has read.
    pub fn keep(&mut self, record: &Record) {
        self.bytes += record.bytes;
    }

    /// Stops counting a record that is not kept any more.
    pub fn forget(&mut self, record: &Record) {
        self.bytes = self.bytes.saturating_sub(record.bytes);
    }

    fn read_as(&mut self, key: &str, id: &str, incarnation: Option<Incarnation>, stored: &[u8]) -> Record {
        match self.fits(stored.len()).and_then(|()| Reading::of(id, incarnation, stored)) {
            Ok(Reading { instance, doubts }) => {
                self.bytes += stored.len();
                let remark = (!doubts.is_empty()).then(|| Remark::new(self.backend, key, doubts.join("; ")));
                Record { bytes: stored.len(), ..Record::of(instance) }.remark(remark)
            }
            Err(why) => Record::unreadable(self.backend, key, &why),
        }
    }

    fn fits(&self, bytes: usize) -> Result<()> {
        if bytes <= SMALL || self.bytes + bytes <= MOST_BYTES {
            return Ok(());
        }
        let (most, small) = (MOST_BYTES >> 20, SMALL >> 10);
        Err(Error::invalid(format!("the service's records exceed {most} MiB, so none larger than {small} KiB is kept")))
    }
}

/// The instance that holds the entry of this id, for claims. None if the record cannot be read: an unreadable record belongs
/// to no claim.
pub fn holder(id: &str, stored: &[u8]) -> Option<Instance> {
    Reading::of(id, None, stored).ok().map(|reading| reading.instance)
}

/// An instance as it is used, and what in its record is not believed.
struct Reading {
    instance: Instance,
    doubts: Vec<String>,
}

impl Reading {
    fn of(id: &str, incarnation: Option<Incarnation>, stored: &[u8]) -> Result<Self> {
        let Stored { mut instance, incarnation: said } = parse(stored)?;
        let mut doubts = Vec::new();
        if instance.id() != id {
            doubts.push(format!("it says that it is {:?}, and counts as {id:?}, as its key says", instance.id()));
            instance = instance.with_id(id)?;
        }
        let counts = incarnation.unwrap_or(said);
        if counts != said {
            doubts
                .push(format!("it says that it is of incarnation {said}, and counts as of {counts}, as its key says"));
        }
        doubts.extend(unbelieved(counts));
        Ok(Self { instance: instance.with_incarnation(counts.believed()), doubts })
    }
}

/// The remark on an incarnation that is not [believed](Incarnation::believed).
pub fn unbelieved(incarnation: Incarnation) -> Option<String> {
    let why = "is more than a day ahead of this machine's clock, and counts as not known";
    (incarnation.believed() != incarnation).then(|| format!("its incarnation {incarnation} {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(id: &str, stored: &str) -> (Option<Instance>, String) {
        let record = RecordReader::new("test").read("/key", id, stored.as_bytes());
        let remark = record.remarked().map(ToString::to_string).unwrap_or_default();
        (record.instance().map(|instance| (**instance).clone()), remark)
    }

    #[test]
    fn what_is_as_its_key_says_gives_no_cause_for_remarks() {
        let (instance, remark) = read("a", r#"{"v":1,"id":"a","address":"h:1","incarnation":7}"#);
        assert_eq!((instance.map(|i| i.incarnation().as_micros()), remark.as_str()), (Some(7), ""));
    }

    #[test]
    fn the_key_says_who_it_is() {
        let (instance, remark) = read("zz", r#"{"v":1,"id":"a","address":"h:1"}"#);
        assert_eq!(instance.as_ref().map(super::super::instance::Instance::id), Some("zz"));
        assert_eq!(remark, r#"test: "/key": it says that it is "a", and counts as "zz", as its key says"#);
        let (instance, remark) = read("z z", r#"{"v":1,"id":"a","address":"h:1"}"#);
        assert!(instance.is_none() && remark.contains("record skipped: instance id \"z z\""), "{remark}");
        let mut reader = RecordReader::new("test");
        let stored = br#"{"v":1,"id":"a","address":"h:1","incarnation":9}"#;
        let record = reader.read_incarnation("/key", "a", Incarnation::from_micros(5), stored);
        assert_eq!(record.instance().map(|instance| instance.incarnation().as_micros()), Some(5));
        assert!(record.remarked().is_some_and(|remark| remark.text.contains("of incarnation 9, and counts as of 5")));
    }

    #[test]
    fn an_incarnation_of_the_far_future_is_none_that_is_known() {
        let stored = format!(r#"{{"v":1,"id":"a","address":"h:1","incarnation":{}}}"#, u64::MAX);
        let (instance, remark) = read("a", &stored);
        assert_eq!(instance.map(|instance| instance.incarnation().as_micros()), Some(0));
        assert!(remark.contains(&format!("its incarnation {} is more than a day ahead", u64::MAX)), "{remark}");
        assert_eq!(holder("a", stored.as_bytes()).map(|there| there.incarnation().as_micros()), Some(0));
    }

    #[test]
    fn what_is_said_of_a_megabyte_of_garbage_is_short() {
        let long = "x".repeat(1 << 20);
        for stored in [
            long.clone(),
            format!(r#"{{"v":1,"id":"{long}","address":"h:1"}}"#),
            format!(r#"{{"v":1,"id":"a","address":"{long}"}}"#),
            format!(r#"{{"v":1,"id":"a","address":"h:1","weight":"{long}"}}"#),
            format!(r#"{{"v":1,"id":"a","address":"h:1","kind":"{long}"}}"#),
            format!(r#"{{"v":"{long}"}}"#),
        ] {
            let (instance, remark) = read("a", &stored);
            assert!(instance.is_none() && remark.len() < 1_000, "{} bytes: {remark:.300}", remark.len());
            let error = crate::decode(stored.as_bytes()).expect_err("garbage");
            assert!(format!("{error:?} {}", error.chain()).len() < 3_000, "{error:.300?}");
        }
    }

    #[test]
    fn what_is_said_of_a_record_is_one_line() {
        let (_, remark) = read("a", "{\"v\":1,\"id\":\"a\",\"address\":\"h:1\",\"kind\":\"x\\nERROR y\"}");
        assert!(remark.contains("x ERROR y") && !remark.contains(char::is_control), "{remark:?}");
    }

    #[test]
    fn above_the_bound_on_all_records_the_small_ones_are_kept() {
        let mut reader = RecordReader::new("test");
        let record = |bytes: usize| format!(r#"{{"v":1,"id":"a","address":"h:1","note":"{}"}}"#, "x".repeat(bytes));
        let (large, small) = (record(1 << 20), record(1_000));
        let kept: Vec<_> = (0..100).map(|_| reader.read("/key", "a", large.as_bytes())).collect();
        assert_eq!(kept.iter().filter(|record| record.instance().is_some()).count(), 63);
        assert!(kept[99].remarked().is_some_and(|remark| remark.text.contains("64 MiB")));
        assert!(reader.read("/key", "a", small.as_bytes()).instance().is_some());
        reader.forget(&kept[0]);
        assert!(reader.read("/key", "a", large.as_bytes()).instance().is_some(), "there is room again");
    }
}
