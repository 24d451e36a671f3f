//! Shares one client of a registry within a process among all URLs with the same settings.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use callboard_core::{Target, TargetOptions};

use crate::features::Both;

/// The clients in use. They are held by their users, not by this map.
static CLIENTS: Mutex<BTreeMap<Key, Weak<dyn Both>>> = Mutex::new(BTreeMap::new());

/// Everything in a URL that a backend has read: all but the service and the keys of others. It holds secrets, and is
/// never printed.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    scheme: String,
    user: Option<String>,
    password: Option<String>,
    hosts: Vec<String>,
    options: Vec<(String, String)>,
}

/// The client that is in use with these settings, or else `made`. At this point only the backend may have read from
/// `options`.
pub(super) fn shared(made: Arc<dyn Both>, target: &Target, options: &TargetOptions<'_>) -> Arc<dyn Both> {
    let key = Key {
        scheme: target.scheme().to_owned(),
        user: target.user().map(str::to_owned),
        password: target.password().map(str::to_owned),
        hosts: target.hosts().to_vec(),
        options: options.taken().into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
    };
    // No panic can leave the map half changed.
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

    /// The client for a URL whose backend reads the keys `ttl` and `token`.
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
        assert!(held.upgrade().is_none(), "it is not in use");
        drop(client(url));
    }
}
