//! What the pieces take from `arc_swap`.

use crate::sync::Arc;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// A pointer that is replaced as a whole. Who loads it may see one that was replaced meanwhile, as on a processor: it is
/// known by its number, which is stored with release and loaded with acquire, and by nothing stronger.
#[derive(Debug)]
pub(crate) struct ArcSwap<T> {
    latest: AtomicUsize,
    /// All that there were. Not loom's lock: to look a number up is no step of its own.
    all: real_std::sync::Mutex<Vec<Arc<T>>>,
}

/// What was loaded.
pub(crate) type Guard<T> = T;

impl<T> ArcSwap<T> {
    pub(crate) fn from_pointee(first: T) -> Self {
        Self { latest: AtomicUsize::new(0), all: real_std::sync::Mutex::new(vec![Arc::new(first)]) }
    }

    pub(crate) fn load(&self) -> Guard<Arc<T>> {
        let number = self.latest.load(Ordering::Acquire);
        Arc::clone(&self.all()[number])
    }

    pub(crate) fn swap(&self, next: Arc<T>) -> Arc<T> {
        let number = {
            let mut all = self.all();
            all.push(next);
            all.len() - 1
        };
        let former = self.latest.swap(number, Ordering::AcqRel);
        Arc::clone(&self.all()[former])
    }

    fn all(&self) -> real_std::sync::MutexGuard<'_, Vec<Arc<T>>> {
        self.all.lock().expect("nothing panics under this lock")
    }
}
