//! Which lease of this process has claimed a node last, over one session.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The claims of one [`ZooKeeper`](crate::ZooKeeper) and its clones. ZooKeeper knows which session has made a node, but
/// not which of the leases that share the session.
#[derive(Debug, Default)]
pub(crate) struct Claims(Mutex<Numbers>);

/// The id of a session, and a path.
type Key = (i64, String);

#[derive(Debug, Default)]
struct Numbers {
    last: u64,
    /// The claims on each path, the latest one last. A path without a claim is removed.
    by_path: HashMap<Key, Vec<u64>>,
}

/// One claim on a path, from before its first request until after its clean-up.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Arc<Claims>,
    key: Key,
    number: u64,
}

impl Claims {
    pub(super) fn claim(self: &Arc<Self>, session: i64, path: &str) -> Claim {
        let (key, mut numbers) = ((session, path.to_owned()), self.numbers());
        numbers.last += 1;
        let number = numbers.last;
        numbers.by_path.entry(key.clone()).or_default().push(number);
        Claim { claims: Arc::clone(self), key, number }
    }

    /// Nothing in here panics half-way, so the numbers are whole even after a panic elsewhere.
    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Whether no other lease has claimed the path since, over this session.
    pub(super) fn is_latest(&self) -> bool {
        self.claims.numbers().by_path.get(&self.key).and_then(|claims| claims.last()) == Some(&self.number)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut numbers = self.claims.numbers();
        if let Some(claims) = numbers.by_path.get_mut(&self.key) {
            claims.retain(|number| *number != self.number);
            if claims.is_empty() {
                numbers.by_path.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_claim_on_a_path_is_known_and_none_is_left_behind() {
        let claims = Arc::<Claims>::default();
        let (first, second) = (claims.claim(1, "/a"), claims.claim(1, "/a"));
        let (other_path, other_session) = (claims.claim(1, "/b"), claims.claim(2, "/a"));
        let all = [&first, &second, &other_path, &other_session];
        assert_eq!(all.map(Claim::is_latest), [false, true, true, true]);
        drop(second);
        assert!(first.is_latest());
        drop((first, other_path, other_session));
        assert!(claims.numbers().by_path.is_empty());
    }
}
