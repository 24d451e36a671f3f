//! A cell that is set once.

use super::Mutex;
use super::atomic::{AtomicBool, Ordering};

/// The real one, and beside it what loom has to see: who finds it set sees what was done before.
#[derive(Debug, Default)]
pub(crate) struct OnceLock<T> {
    is_set: AtomicBool,
    setting: Mutex<()>,
    real: real_std::sync::OnceLock<T>,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self { is_set: AtomicBool::new(false), setting: Mutex::new(()), real: real_std::sync::OnceLock::new() }
    }

    pub(crate) fn get(&self) -> Option<&T> {
        self.is_set.load(Ordering::Acquire).then(|| self.real.get())?
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.get_or_init(|| value.take().expect("it is asked for once"));
        value.map_or(Ok(()), Err)
    }

    pub(crate) fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        let _setting = self.setting.lock();
        let value = self.real.get_or_init(make);
        self.is_set.store(true, Ordering::Release);
        value
    }
}
