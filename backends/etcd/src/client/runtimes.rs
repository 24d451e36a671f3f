//! One value for each tokio runtime.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;

/// A value for each runtime that has asked for one.
///
/// Connections and tasks of one runtime are of no use to another: they end with their runtime, and make no progress
/// while nothing polls it.
pub(super) struct PerRuntime<T>(Mutex<Vec<Place<T>>>);

struct Place<T> {
    runtime: runtime::Id,
    value: Arc<T>,
    /// A task waits for this to be dropped. The task is gone when its runtime is.
    end: oneshot::Sender<()>,
}

impl<T> PerRuntime<T> {
    /// The value of the runtime of the caller, made when it is first asked for. Values of runtimes that have ended are
    /// dropped.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn here(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let (runtime, mut places) = (Handle::current().id(), self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(place) = places.iter().find(|place| place.runtime == runtime && !place.end.is_closed()) {
            return Arc::clone(&place.value);
        }
        places.retain(|place| !place.end.is_closed());
        let (end, ended) = oneshot::channel();
        tokio::spawn(async {
            let _ = ended.await;
        });
        let value = Arc::new(make());
        places.push(Place { runtime, value: Arc::clone(&value), end });
        value
    }
}

impl<T> Default for PerRuntime<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn each_runtime_has_its_own_value_until_it_ends() {
        let values = PerRuntime::<()>::default();
        let runtime = || Builder::new_current_thread().build().expect("a runtime");
        let (first, second) = (runtime(), runtime());
        let here = |runtime: &tokio::runtime::Runtime| runtime.block_on(async { values.here(|| ()) });
        let (of_first, of_second) = (here(&first), here(&second));
        assert!(!Arc::ptr_eq(&of_first, &of_second));
        assert!(Arc::ptr_eq(&of_first, &here(&first)));
        drop(first);
        assert!(Arc::ptr_eq(&of_second, &here(&second)));
        here(&runtime());
        assert_eq!(Arc::strong_count(&of_first), 1, "only this test has it");
        drop(values);
        second.block_on(tokio::task::yield_now());
        assert_eq!(second.metrics().num_alive_tasks(), 0, "no task is left behind");
    }
}
