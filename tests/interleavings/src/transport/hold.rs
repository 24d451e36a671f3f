//! What stands for a stream.

use super::{Expiry, Slot};
use crate::sync::Arc;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// A stream and its place. It counts how often it was ended by the call's deadline.
pub(super) struct Hold {
    _place: Slot,
    expired: Arc<AtomicUsize>,
}

impl Hold {
    pub(super) fn expire(self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
    }
}

/// Has a stream in this place until the deadline, if it has not come.
pub(crate) fn hold(expiry: &Expiry, place: Slot, expired: &Arc<AtomicUsize>) {
    expiry.hold(Hold { _place: place, expired: Arc::clone(expired) });
}

/// Ends the stream. False if the deadline has come before.
pub(crate) fn end(expiry: &Expiry) -> bool {
    expiry.release().is_some()
}
