//! Things that a URL can name.

use std::collections::BTreeMap;
use std::sync::Arc;

use callboard_core::{Error, ErrorKind, Result};

/// A name that this version knows. It can be used if its feature is on.
pub(crate) struct Known<Make: ?Sized> {
    pub(crate) name: &'static str,
    pub(crate) feature: &'static str,
    pub(crate) make: Option<Arc<Make>>,
}

/// Things of one sort by name, with those that a feature would add.
pub(crate) struct Names<Make: ?Sized> {
    sort: &'static str,
    /// Text that is added to the error about an unknown name.
    hint: &'static str,
    known: BTreeMap<String, Entry<Make>>,
}

enum Entry<Make: ?Sized> {
    Here(Arc<Make>),
    NeedsFeature(&'static str),
}

impl<Make: ?Sized> Names<Make> {
    pub(crate) fn new(sort: &'static str, known: impl IntoIterator<Item = Known<Make>>) -> Self {
        let entry = |known: Known<Make>| {
            let entry = known.make.map_or(Entry::NeedsFeature(known.feature), Entry::Here);
            (known.name.to_owned(), entry)
        };
        Self { sort, hint: "", known: known.into_iter().map(entry).collect() }
    }

    /// Adds text to the error about an unknown name.
    pub(crate) fn hint(self, hint: &'static str) -> Self {
        Self { hint, ..self }
    }

    pub(crate) fn add(&mut self, name: &str, make: Arc<Make>) {
        self.known.insert(name.to_owned(), Entry::Here(make));
    }

    /// # Errors
    /// If the name is unknown, the error lists the known names. If it is not compiled in, the error names the feature
    /// to turn on.
    pub(crate) fn find(&self, name: &str) -> Result<&Make> {
        let sort = self.sort;
        let message = match self.known.get(name) {
            Some(Entry::Here(make)) => return Ok(&**make),
            Some(Entry::NeedsFeature(feature)) => {
                format!("{sort} {name:?} is not compiled in: turn on the feature {feature:?} of callboard")
            }
            None => format!("unknown {sort} {name:?} (known here: {}){}", self.usable().join(", "), self.hint),
        };
        Err(Error::new(ErrorKind::Unsupported, message))
    }

    /// The entry of this name, if it is compiled in.
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Make>> {
        match self.known.get(name) {
            Some(Entry::Here(make)) => Some(make),
            Some(Entry::NeedsFeature(_)) | None => None,
        }
    }

    /// The name of something that cannot be used, and the feature that would add it.
    pub(crate) fn why_not(&self, name: &str) -> String {
        match self.known.get(name) {
            Some(Entry::NeedsFeature(feature)) => format!("{name:?}, which needs the feature {feature:?} of callboard"),
            Some(Entry::Here(_)) | None => format!("{name:?}"),
        }
    }

    /// The names that can be used.
    pub(crate) fn usable(&self) -> Vec<&str> {
        self.known.iter().filter(|(_, entry)| matches!(entry, Entry::Here(_))).map(|(name, _)| name.as_str()).collect()
    }
}

// A derived impl would require `Make: Clone`, which unsized types are not.
impl<Make: ?Sized> Clone for Names<Make> {
    fn clone(&self) -> Self {
        let known = self.known.iter().map(|(name, entry)| (name.clone(), entry.clone()));
        Self { sort: self.sort, hint: self.hint, known: known.collect() }
    }
}

impl<Make: ?Sized> Clone for Entry<Make> {
    fn clone(&self) -> Self {
        match self {
            Self::Here(make) => Self::Here(Arc::clone(make)),
            Self::NeedsFeature(feature) => Self::NeedsFeature(feature),
        }
    }
}
