//! The files of a service: where they are, what they say, and who holds them.

mod content;
mod file;
mod layout;
mod lock;
mod stamp;

pub(crate) use content::{Content, MAX_LENGTH, open, read, unopened};
pub(crate) use file::{Found, look, put, remove, write};
pub(crate) use layout::{Identity, Layout, id, is_draft, names_in};
pub(crate) use lock::{DirectoryLock, is_at};
pub(crate) use stamp::Stamp;
