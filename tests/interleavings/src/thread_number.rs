//! Threads, numbered anew in each execution of a model.

use real_std::cell::Cell;

use crate::sync::atomic::{AtomicUsize, Ordering};

loom::lazy_static! {
    static ref THREADS: AtomicUsize = AtomicUsize::new(0);
}

loom::thread_local! {
    static NUMBER: Cell<Option<usize>> = Cell::new(None);
}

pub(crate) fn thread_number() -> usize {
    NUMBER.with(|number| {
        let this = number.get().unwrap_or_else(|| THREADS.fetch_add(1, Ordering::Relaxed));
        number.set(Some(this));
        this
    })
}
