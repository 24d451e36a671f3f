//! The entries of one service, folded from a list and the events after it.

use std::collections::BTreeMap;
use std::sync::Arc;

use callboard_core::{Breaks, Record, RecordReader, Snapshot, drop_aside};
use etcd_client::proto::{PbEvent, PbKeyValue};

use crate::record::{DELETE, Directory, Mark};

/// The instances of one service, and its config. Records that have been read are kept, so that an event costs the work
/// for one instance, and a set costs its pointers.
#[derive(Debug)]
pub(crate) struct Entries {
    directory: Directory,
    reader: RecordReader,
    by_key: ByKey,
    config: Option<Config>,
}

#[derive(Debug, Default)]
struct ByKey(BTreeMap<Vec<u8>, Entry>);

/// From this number on it takes too long to free the entries here.
const MANY: usize = 10_000;

impl Drop for ByKey {
    fn drop(&mut self) {
        if self.0.len() > MANY {
            drop_aside(std::mem::take(&mut self.0));
        }
    }
}

#[derive(Debug)]
struct Entry {
    record: Record,
    mark: Mark,
}

/// A config is not parsed here: those who use it say whether it can be read.
#[derive(Debug)]
struct Config {
    stored: Arc<[u8]>,
    mark: Mark,
}

impl Entries {
    pub(crate) fn new(directory: Directory) -> Self {
        Self { directory, reader: RecordReader::new("etcd"), by_key: ByKey::default(), config: None }
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// An empty one of the same service, for a new list. A config that has not changed will be the same allocation.
    fn emptied(&self) -> Self {
        let config =
            self.config.as_ref().map(|Config { stored, mark }| Config { stored: Arc::clone(stored), mark: *mark });
        Self { config, ..Self::new(self.directory.clone()) }
    }

    /// Begins a new list, which replaces everything once its last page has come.
    pub(crate) fn replace(&mut self) -> Listing<'_> {
        Listing { fresh: self.emptied(), entries: self, has_config: false, breaks: Breaks::new() }
    }

    /// Notes what is stored under a key. Says whether that concerns this service.
    fn put(&mut self, stored: PbKeyValue) -> bool {
        if self.directory.is_config(&stored.key) {
            self.put_config(&stored);
            return true;
        }
        let Some(id) = self.directory.id(&stored.key) else { return false };
        let (id, mark) = (String::from_utf8_lossy(id), Mark::of(&stored));
        if let Some(before) = self.by_key.0.get(&stored.key) {
            self.reader.forget(&before.record);
        }
        let record = self.reader.read(&String::from_utf8_lossy(&stored.key), &id, &stored.value);
        self.by_key.0.insert(stored.key, Entry { record, mark });
        true
    }

    /// What has not changed stays the same allocation.
    fn put_config(&mut self, written: &PbKeyValue) {
        let same = self.config.take().map(|config| config.stored).filter(|stored| **stored == *written.value);
        let stored = same.unwrap_or_else(|| written.value.as_slice().into());
        self.config = Some(Config { stored, mark: Mark::of(written) });
    }

    /// Applies an event. Says whether the set may have changed.
    pub(crate) fn apply(&mut self, event: PbEvent) -> bool {
        match event.kv {
            Some(gone) if event.r#type == DELETE && self.directory.is_config(&gone.key) => self.config.take().is_some(),
            Some(gone) if event.r#type == DELETE => self.remove(&gone.key),
            Some(stored) => self.put(stored),
            None => false,
        }
    }

    fn remove(&mut self, key: &[u8]) -> bool {
        let gone = self.by_key.0.remove(key);
        gone.inspect(|gone| self.reader.forget(&gone.record)).is_some()
    }

    /// The set as it is.
    pub(crate) async fn snapshot(&self) -> Snapshot {
        let (mut snapshot, mut breaks) = (Snapshot::default(), Breaks::new());
        for entry in self.by_key.0.values() {
            snapshot.add(&entry.record);
            breaks.take().await;
        }
        snapshot.config = self.config.as_ref().map(|config| Arc::clone(&config.stored));
        snapshot
    }

    /// The entry that was written last: its key and its mark. None if there are no entries.
    pub(crate) fn newest(&self) -> Option<(&[u8], Mark)> {
        let newest = self.by_key.0.iter().max_by_key(|(_, entry)| entry.mark.revision);
        newest.map(|(key, entry)| (key.as_slice(), entry.mark))
    }

    /// Whether this is the very config that is known: the same writing of the same bytes, or none if there is none.
    pub(crate) fn has_config(&self, there: Option<&PbKeyValue>) -> bool {
        match (&self.config, there) {
            (Some(config), Some(there)) => config.mark == Mark::of(there) && *config.stored == *there.value,
            (None, None) => true,
            _ => false,
        }
    }
}

/// A list that comes page by page. If it does not come to its end, the entries stay as they were.
pub(crate) struct Listing<'e> {
    entries: &'e mut Entries,
    fresh: Entries,
    has_config: bool,
    breaks: Breaks,
}

impl Listing<'_> {
    pub(crate) fn directory(&self) -> &Directory {
        &self.fresh.directory
    }

    pub(crate) async fn page(&mut self, listed: Vec<PbKeyValue>) {
        for stored in listed {
            self.has_config |= self.fresh.directory.is_config(&stored.key);
            self.fresh.put(stored);
            self.breaks.take().await;
        }
    }

    pub(crate) fn end(mut self) {
        if !self.has_config {
            self.fresh.config = None;
        }
        *self.entries = self.fresh;
    }
}

#[cfg(test)]
mod tests {
    use callboard_core::{Instance, ServiceName, encode};
    use proptest::prelude::*;

    use super::*;
    use crate::record::Layout;

    /// Runs it on a task of its own.
    fn done<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(work)
    }

    fn list(entries: &mut Entries, list: Vec<PbKeyValue>) {
        done(async {
            let mut listing = entries.replace();
            listing.page(list).await;
            listing.end();
        });
    }

    fn snapshot(entries: &Entries) -> Snapshot {
        done(entries.snapshot())
    }

    fn empty() -> Entries {
        let service: ServiceName = "project/test".parse().expect("a name");
        let directory = Layout::new("/callboard").expect("a prefix").directory(&service);
        Entries::new(directory)
    }

    fn stored(key: &str, value: String, revision: i64) -> PbKeyValue {
        PbKeyValue { key: key.into(), value: value.into_bytes(), mod_revision: revision, ..PbKeyValue::default() }
    }

    fn record(id: &str, weight: u32) -> String {
        encode(&Instance::new(id, "127.0.0.1:1".parse().expect("an address")).expect("an id").with_weight(weight))
    }

    fn event(kind: i32, stored: PbKeyValue) -> PbEvent {
        PbEvent { r#type: kind, kv: Some(stored), prev_kv: None }
    }

    #[test]
    fn an_event_leaves_the_other_instances_as_they_are() {
        let mut entries = empty();
        entries.put(stored("/callboard/project/test/a", record("a", 1), 2));
        entries.put(stored("/callboard/project/test/b", record("b", 1), 3));
        let before = snapshot(&entries);
        assert!(entries.apply(event(0, stored("/callboard/project/test/b", record("b", 7), 4))));
        let after = snapshot(&entries);
        assert!(Arc::ptr_eq(&before.instances[0], &after.instances[0]));
        assert_eq!(after.instances[1].weight(), 7);
        assert_eq!(
            entries.newest().map(|(key, mark)| (key, mark.revision)),
            Some((&b"/callboard/project/test/b"[..], 4))
        );
    }

    #[test]
    fn a_config_is_no_entry_and_stays_the_same_allocation_while_it_says_the_same() {
        let (mut entries, config) =
            (empty(), |text: &str, at| stored("/callboard/project/test/@config", text.into(), at));
        let entry = || stored("/callboard/project/test/a", record("a", 1), 2);
        list(&mut entries, vec![config("{}", 1), entry()]);
        let first = snapshot(&entries);
        assert_eq!((first.instances.len(), first.skipped, first.config.as_deref()), (1, 0, Some(&b"{}"[..])));
        let same = |entries: &Entries| matches!((&first.config, &snapshot(entries).config), (Some(one), Some(other)) if Arc::ptr_eq(one, other));
        assert!(entries.apply(event(0, stored("/callboard/project/test/b", "garbage".into(), 3))) && same(&entries));
        assert!(entries.apply(event(0, config("{}", 4))) && same(&entries), "written once more");
        assert_eq!(entries.newest().map(|(_, mark)| mark.revision), Some(3), "it is not asked for as an entry");
        list(&mut entries, vec![config("{}", 4), entry()]);
        assert!(same(&entries), "listed again");
        assert!(entries.has_config(Some(&config("{}", 4))) && !entries.has_config(None));
        assert!(!entries.has_config(Some(&config("{}", 5))), "another writing");
        assert!(!entries.has_config(Some(&config("[]", 4))), "of another etcd that has come as far");
        list(&mut entries, vec![entry()]);
        assert!(snapshot(&entries).config.is_none() && entries.has_config(None), "not listed any more");
        assert!(!entries.apply(event(DELETE, config("", 5))), "no change");
        assert!(entries.apply(event(0, config("\u{0}", 6))) && entries.apply(event(DELETE, config("", 7))));
        assert!(snapshot(&entries).config.is_none());
        assert!(!entries.apply(event(0, stored("/callboard/project/test/deep/@config", "{}".into(), 8))), "another's");
    }

    #[test]
    fn another_services_keys_are_no_garbage() {
        let mut entries = empty();
        assert!(!entries.put(stored("/callboard/project/test/deep/a", record("a", 1), 2)));
        assert!(!entries.apply(event(DELETE, stored("/callboard/project/test/deep/a", String::new(), 3))));
        assert!(entries.put(stored("/callboard/project/test/b", "garbage".into(), 4)));
        assert_eq!((snapshot(&entries).instances.len(), snapshot(&entries).skipped), (0, 1));
        assert!(entries.apply(event(0, stored("/callboard/project/test/b", record("b", 1), 5))));
        assert_eq!((snapshot(&entries).instances.len(), snapshot(&entries).skipped), (1, 0));
    }

    proptest! {
        /// Whatever happens to the keys, a list and all events after it come to the same as a list of the keys now.
        #[test]
        fn a_list_and_its_events_are_what_a_later_list_is(
            changes in proptest::collection::vec((0..7u8, 0..4u8, 0..3u32), 0..60), listed in 0..60usize,
        ) {
            let mut store = BTreeMap::new();
            let (mut folded, mut revision) = (empty(), 1);
            for (step, (name, kind, weight)) in changes.into_iter().enumerate() {
                if step == listed {
                    list(&mut folded, store.values().cloned().collect());
                }
                revision += 1;
                let name = match name {
                    5 => "deep/x".to_owned(),
                    6 => "@config".to_owned(),
                    name => name.to_string(),
                };
                let key = format!("/callboard/project/test/{name}");
                let change = match kind {
                    0 => event(DELETE, stored(&key, String::new(), revision)),
                    1 => event(0, stored(&key, format!("garbage {weight}"), revision)),
                    _ => event(0, stored(&key, record("i", weight), revision)),
                };
                let kv = change.kv.clone().expect("made with one");
                if kind == 0 { store.remove(&kv.key); } else { store.insert(kv.key.clone(), kv); }
                folded.apply(change);
                {
                    let mut fresh = empty();
                    list(&mut fresh, store.values().cloned().collect());
                    prop_assert_eq!(snapshot(&fresh), snapshot(&folded));
                    prop_assert_eq!(fresh.newest(), folded.newest());
                    prop_assert!(folded.has_config(store.get(folded.directory().config().as_bytes())));
                }
            }
        }

        #[test]
        fn any_bytes_are_an_entry_or_not_and_never_panic(key in proptest::collection::vec(any::<u8>(), 0..10), value in proptest::collection::vec(any::<u8>(), 0..50), kind: i32) {
            let mut entries = empty();
            let key = [entries.directory().start().as_bytes(), &key].concat();
            entries.apply(event(kind, PbKeyValue { key, value, ..PbKeyValue::default() }));
            let snapshot = snapshot(&entries);
            prop_assert!(snapshot.instances.len() + snapshot.skipped <= 1);
        }
    }
}
