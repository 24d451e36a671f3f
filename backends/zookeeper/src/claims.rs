//! Who of this process has claimed a node last, over one session.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The claims over one session. ZooKeeper tells sessions apart, and not who within one process has made a node.
#[derive(Debug, Default)]
pub(crate) struct Claims(Mutex<Numbers>);

#[derive(Debug, Default)]
struct Numbers {
    last: u64,
    /// The claims on each path, the latest one last. No path is there without a claim.
    by_path: HashMap<String, Vec<u64>>,
}

/// One claim on a path, from before its first question until after its clean-up.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Arc<Claims>,
    path: String,
    number: u64,
}

impl Claims {
    pub(crate) fn claim(self: &Arc<Self>, path: &str) -> Claim {
        let mut numbers = self.numbers();
        numbers.last += 1;
        let number = numbers.last;
        numbers.by_path.entry(path.to_owned()).or_default().push(number);
        Claim { claims: Arc::clone(self), path: path.to_owned(), number }
    }

    /// Nothing in here panics half-way, so that what a panic elsewhere has left is whole.
    fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Whether nobody has claimed the path since, over this session.
    pub(crate) fn is_latest(&self) -> bool {
        self.claims.numbers().by_path.get(&self.path).and_then(|claims| claims.last()) == Some(&self.number)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut numbers = self.claims.numbers();
        if let Some(claims) = numbers.by_path.get_mut(&self.path) {
            claims.retain(|number| *number != self.number);
            if claims.is_empty() {
                numbers.by_path.remove(&self.path);
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
        let (first, second, other) = (claims.claim("/a"), claims.claim("/a"), claims.claim("/b"));
        assert_eq!([&first, &second, &other].map(Claim::is_latest), [false, true, true]);
        drop(second);
        assert!(first.is_latest());
        drop((first, other));
        assert!(claims.numbers().by_path.is_empty());
    }
}
