//! A client that outlives the runtime in which it was made.

use std::sync::Arc;
use std::thread;

use callboard_core::{RegistrationSettings, Registry, Resolver, register};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};

use crate::company::{SOON, instance, service};
use crate::{Harness, Watcher};

/// Another runtime, in which this registry and this resolver are used first: an instance is registered and a service
/// watched there. It ends when it is told to, with whatever runs in it.
struct Elsewhere {
    end: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Elsewhere {
    async fn begin(registry: Arc<dyn Registry>, resolver: Arc<dyn Resolver>) -> Self {
        let (end, told_to_end) = oneshot::channel();
        let (ready, mut is_ready) = mpsc::channel(1);
        let work = async move {
            let service = service("project/elsewhere");
            let registered = register(registry, &service, instance("b", 2), RegistrationSettings::default());
            registered.wait_registered(SOON).await.expect("on the board from elsewhere");
            let watcher = Watcher::new(resolver, &service);
            watcher.until_ids(SOON, "seen from elsewhere", &["b"]).await;
            ready.send(()).await.expect("somebody waits for it");
            let _ = told_to_end.await;
        };
        let thread = thread::spawn(|| {
            let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(work);
            // Here it ends, with its tasks, its sockets and its timers.
        });
        is_ready.recv().await.expect("it is used elsewhere");
        Self { end, thread }
    }

    async fn end(self) {
        self.end.send(()).expect("it waits to be told");
        let ended = tokio::task::spawn_blocking(|| self.thread.join());
        ended.await.expect("joined").expect("no panic there");
    }
}

/// One client that is used in two runtimes goes on in the second when the first, which made it, ends: what is registered
/// stays or is soon there again, what is watched is heard, and new work can begin.
pub async fn a_client_outlasts_the_runtime_that_made_it(harness: &dyn Harness) {
    let (registry, resolver) = (harness.registry(), harness.resolver());
    let elsewhere = Elsewhere::begin(Arc::clone(&registry), Arc::clone(&resolver)).await;
    let service = service("project/test");
    let register = |id: &str, port| {
        let settings = RegistrationSettings::default();
        register(Arc::clone(&registry), &service, instance(id, port), settings)
    };
    let (first, watcher) = (register("a", 1), Watcher::new(Arc::clone(&resolver), &service));
    watcher.until_ids(SOON, "before the other runtime ends", &["a"]).await;
    elsewhere.end().await;
    let heal = harness.bounds().heal;
    let second = register("c", 3);
    second.wait_registered(heal).await.expect("a new instance is registered over the same client");
    let seen = watcher.until_ids(heal, "after the other runtime has ended", &["a", "c"]).await;
    assert_eq!(seen.emptied, 0, "{seen:?}");
    first.wait_registered(heal).await.expect("the former one is still there, or there again");
    let late = Watcher::new(resolver, &service);
    late.until_ids(heal, "by a new watch over the same client", &["a", "c"]).await;
    second.deregister().await.expect("left");
    watcher.until_ids(heal, "after one has left", &["a"]).await;
    first.deregister().await.expect("left");
}
