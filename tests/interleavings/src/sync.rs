//! What the pieces take from `std::sync` and `tokio::sync`.

pub(crate) mod atomic;
mod notify;
mod once_lock;

pub(crate) use loom::sync::{Mutex, MutexGuard};
pub(crate) use real_std::sync::{Arc, PoisonError};

pub(crate) use self::notify::Notify;
pub(crate) use self::once_lock::OnceLock;

pub(crate) mod futures {
    pub(crate) use super::notify::{Notified, OwnedNotified};
}
