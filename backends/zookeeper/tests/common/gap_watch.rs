//! A watcher that looks for gaps between sets.

use std::sync::Arc;

use callboard_core::{Resolver, ServiceName};
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::SOON;

/// Watches a service without the supervision that would cover a gap, and again whenever that fails.
#[derive(Debug)]
pub(crate) struct GapWatch {
    seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Each set: ids with weights.
    pub(crate) sets: Vec<Vec<String>>,
    /// What watches have failed with.
    pub(crate) errors: Vec<String>,
}

impl GapWatch {
    pub(crate) fn over(resolver: Arc<dyn Resolver>, service: &ServiceName) -> Self {
        let (sender, seen) = watch::channel(Seen::default());
        let service = service.clone();
        let task = tokio::spawn(async move {
            loop {
                let mut watch = resolver.watch(&service);
                while let Some(item) = watch.next().await {
                    sender.send_modify(|seen| match item {
                        Err(error) => seen.errors.push(error.chain()),
                        Ok(set) => {
                            let mut ids: Vec<_> =
                                set.instances.iter().map(|i| format!("{}={}", i.id(), i.weight())).collect();
                            ids.sort();
                            seen.sets.push(ids);
                        }
                    });
                    if sender.borrow().errors.len() > 10_000 {
                        return;
                    }
                }
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        });
        Self { seen, task }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until the last set is this one.
    pub(crate) async fn until(&self, what: &str, set: &[&str]) {
        let mut seen = self.seen.clone();
        let waited = timeout(SOON, seen.wait_for(|seen| seen.sets.last().is_some_and(|last| last == set))).await;
        assert!(waited.is_ok(), "{what}: not {set:?} within {SOON:?}: {:?}", self.seen());
    }

    /// From the first set that has this member on, none was without it.
    pub(crate) fn never_missed(&self, member: &str) {
        let seen = self.seen();
        let since = seen.sets.iter().skip_while(|set| !set.iter().any(|id| id == member));
        assert!(since.clone().count() > 0, "{member} was never seen: {seen:?}");
        assert!(since.clone().all(|set| set.iter().any(|id| id == member)), "a set without {member}: {seen:?}");
    }

    /// From the first set that was not empty on, each had one member.
    pub(crate) fn never_missed_a_member(&self) {
        let seen = self.seen();
        let mut since = seen.sets.iter().skip_while(|set| set.is_empty());
        assert!(since.all(|set| set.len() == 1), "a gap: {seen:?}");
    }
}

impl Drop for GapWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}
