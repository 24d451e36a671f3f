//! Atomic numbers, as loom has them, and in one order of all where that is asked for.

pub(crate) use loom::Ordering;
use loom::sync::atomic as loom;
use real_std::sync::atomic as real;

/// loom takes `SeqCst` for `AcqRel`: a load may give what was stored long before, and what follows from there being one
/// order of all would not be seen. Here such a load gives what was stored last, if that was stored with `SeqCst`; in a
/// piece that asks for it throughout, this is what there being one order means.
#[derive(Debug)]
struct InOrder(real::AtomicBool);

impl Default for InOrder {
    fn default() -> Self {
        Self(real::AtomicBool::new(true))
    }
}

impl InOrder {
    fn note(&self, stored: Ordering) {
        self.0.store(stored == Ordering::SeqCst, Ordering::Relaxed);
    }

    fn holds(&self, loaded: Ordering) -> bool {
        loaded == Ordering::SeqCst && self.0.load(Ordering::Relaxed)
    }
}

macro_rules! atomic {
    ($($name:ident: $value:ty = $none:literal),*) => {$(
        #[derive(Debug, Default)]
        pub(crate) struct $name {
            inner: loom::$name,
            in_order: InOrder,
        }

        #[allow(dead_code, reason = "all of them have the same")]
        impl $name {
            pub(crate) fn new(value: $value) -> Self {
                Self { inner: loom::$name::new(value), in_order: InOrder::default() }
            }

            #[track_caller]
            pub(crate) fn load(&self, order: Ordering) -> $value {
                match self.in_order.holds(order) {
                    // What changes a value, if only into itself, sees the last one.
                    true => self.inner.fetch_or($none, Ordering::Acquire),
                    false => self.inner.load(order),
                }
            }

            #[track_caller]
            pub(crate) fn store(&self, value: $value, order: Ordering) {
                match order {
                    // loom orders two of these, and none of two stores.
                    Ordering::SeqCst => _ = self.inner.swap(value, Ordering::Release),
                    _ => self.inner.store(value, order),
                }
                self.in_order.note(order);
            }

            #[track_caller]
            pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                let former = self.inner.swap(value, order);
                self.in_order.note(order);
                former
            }

            #[track_caller]
            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let former = self.inner.compare_exchange(current, new, success, failure)?;
                self.in_order.note(success);
                Ok(former)
            }

            #[track_caller]
            pub(crate) fn fetch_update(
                &self,
                success: Ordering,
                failure: Ordering,
                mut next: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let mut now = self.load(failure);
                while let Some(next) = next(now) {
                    match self.compare_exchange(now, next, success, failure) {
                        Ok(former) => return Ok(former),
                        Err(other) => now = other,
                    }
                }
                Err(now)
            }
        }
    )*};
}

atomic!(AtomicBool: bool = false, AtomicU32: u32 = 0, AtomicU64: u64 = 0, AtomicUsize: usize = 0);

macro_rules! counting {
    ($($name:ident: $value:ty),*) => {$(
        #[allow(dead_code, reason = "all of them have the same")]
        impl $name {
            #[track_caller]
            pub(crate) fn fetch_add(&self, value: $value, order: Ordering) -> $value {
                let former = self.inner.fetch_add(value, order);
                self.in_order.note(order);
                former
            }

            #[track_caller]
            pub(crate) fn fetch_sub(&self, value: $value, order: Ordering) -> $value {
                let former = self.inner.fetch_sub(value, order);
                self.in_order.note(order);
                former
            }

            #[track_caller]
            pub(crate) fn fetch_max(&self, value: $value, order: Ordering) -> $value {
                let former = self.inner.fetch_max(value, order);
                self.in_order.note(order);
                former
            }
        }
    )*};
}

counting!(AtomicU32: u32, AtomicU64: u64, AtomicUsize: usize);
