//! One client of a registry for everything in the process that means the same by its URL.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use callboard_core::{Target, TargetOptions};

use crate::features::Both;

/// Those that are in use. Who uses one holds it; this does not.
static CLIENTS: Mutex<BTreeMap<Key, Weak<dyn Both>>> = Mutex::new(BTreeMap::new());

/// All that a URL has said to a backend: everything but the service and what others have read. It holds secrets, and
/// is never printed.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    scheme: String,
    user: Option<String>,
    password: Option<String>,
    hosts: Vec<String>,
    options: Vec<(String, String)>,
}

/// The client that is in use already with these settings, or else the one that was just made. `options` has been asked
/// by the backend, and by nobody else yet.
pub(super) fn shared(made: Arc<dyn Both>, target: &Target, options: &TargetOptions<'_>) -> Arc<dyn Both> {
    let key = Key {
        scheme: target.scheme().to_owned(),
        user: target.user().map(str::to_owned),
        password: target.password().map(str::to_owned),
        hosts: target.hosts().to_vec(),
        options: options.taken().into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
    };
    // Nothing here can leave it half changed.
    let mut clients = CLIENTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(client) = clients.get(&key).and_then(Weak::upgrade) {
        return client;
    }
    clients.retain(|_, client| client.strong_count() > 0);
    clients.insert(key, Arc::downgrade(&made));
    made
}

#[cfg(all(test, feature = "memory"))]
mod tests {
    use callboard_core::{Registry, Resolver};
    use callboard_memory::Memory;

    use super::*;

    /// What a URL gives whose backend reads the keys `ttl` and `token`.
    fn client(url: &str) -> Arc<dyn Both> {
        let target: Target = url.parse().expect(url);
        let mut options = target.options();
        let (_, _) = (options.text("ttl"), options.text("token"));
        shared(Arc::new(Memory::default()), &target, &options)
    }

    #[test]
    fn who_means_the_same_has_the_same_client() {
        let first = client("one://u:p@h1,h2/a?ttl=5s&token=t");
        for same in ["one://u:p@h1,h2/b/c?token=t&ttl=5s", "ONE://u:p@h1,h2/a?balancer=weighted&ttl=5s&token=t"] {
            assert!(Arc::ptr_eq(&first, &client(same)), "{same}");
        }
        for other in [
            "two://u:p@h1,h2/a?ttl=5s&token=t",
            "one://v:p@h1,h2/a?ttl=5s&token=t",
            "one://u:q@h1,h2/a?ttl=5s&token=t",
            "one://h1,h2/a?ttl=5s&token=t",
            "one://u:p@h1/a?ttl=5s&token=t",
            "one://u:p@h1,h2/a?ttl=6s&token=t",
            "one://u:p@h1,h2/a?ttl=5s&token=x",
            "one://u:p@h1,h2/a?ttl=5s",
        ] {
            assert!(!Arc::ptr_eq(&first, &client(other)), "{other}");
        }
    }

    #[test]
    fn a_client_ends_with_its_last_user() {
        let url = "three://h/s?ttl=5s";
        let registry: Arc<dyn Registry> = client(url);
        let resolver: Arc<dyn Resolver> = client(url);
        let held = Arc::downgrade(&resolver);
        drop(resolver);
        assert!(held.upgrade().is_some(), "its registry is in use");
        drop(registry);
        assert!(held.upgrade().is_none(), "nobody uses it");
        drop(client(url));
    }
}
