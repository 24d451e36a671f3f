//! The tags that entries are given, and by which entries are looked for.

use callboard_core::{Error, Result};
use serde::Serialize;

/// Tags as the settings name them. An entry that is registered gets all of them, and an entry is watched only if it has
/// all of them.
#[derive(Clone, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Tags(Vec<String>);

impl Tags {
    pub(crate) fn add(&mut self, tag: String) {
        self.0.push(tag);
    }

    /// # Errors
    /// `Invalid`, if one is empty.
    pub(crate) fn check(&self) -> Result<()> {
        if self.0.iter().any(String::is_empty) { Err(Error::invalid("tag: it is empty")) } else { Ok(()) }
    }

    /// The options of a query for entries that have all of them.
    pub(crate) fn options(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.0.iter().map(|tag| ("tag", tag.clone()))
    }
}

impl std::fmt::Debug for Tags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
