//! State that balancers keep on an endpoint.

use std::any::{Any, TypeId};
use std::sync::{Arc, Mutex, PoisonError};

/// One value of each type that was asked for. There is rarely more than one, so a list is enough.
#[derive(Default)]
pub(super) struct Attributes(Mutex<Vec<(TypeId, Arc<dyn Any + Send + Sync>)>>);

impl Attributes {
    pub(super) fn get<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut attributes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = attributes.iter().find(|(id, _)| *id == TypeId::of::<T>()).map(|(_, value)| Arc::clone(value));
        if let Some(value) = known.and_then(|value| value.downcast().ok()) {
            return value;
        }
        let value = Arc::new(T::default());
        attributes.push((TypeId::of::<T>(), Arc::clone(&value) as _));
        value
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use crate::{Endpoint, Instance};

    #[derive(Default)]
    struct One(AtomicU8);

    #[derive(Default)]
    struct Other(AtomicU8);

    #[test]
    fn each_type_has_an_attribute_that_outlives_a_change_of_weight() {
        let endpoint = Endpoint::new(Instance::new("a", "127.0.0.1:1".parse().expect("an address")).expect("an id"));
        endpoint.attribute::<One>().0.store(1, Ordering::SeqCst);
        endpoint.attribute::<Other>().0.store(2, Ordering::SeqCst);
        let changed = endpoint.with_instance(endpoint.instance().as_ref().clone().with_weight(7));
        let one = changed.attribute::<One>().0.load(Ordering::SeqCst);
        assert_eq!((one, changed.attribute::<Other>().0.load(Ordering::SeqCst)), (1, 2));
    }
}
