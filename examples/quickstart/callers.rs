//! The callers, and the ledger with their results.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use callboard::Channel;
use callboard_echo::client;
use callboard_echo::pb::EchoRequest;
use callboard_echo::pb::echo_client::EchoClient;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// The number of callers.
pub(crate) const CALLERS: usize = 32;
/// How long a server takes for a call.
const THINKING_MS: u32 = 2;

/// Calls by the id of the server that answered.
pub(crate) type Calls = BTreeMap<String, u64>;

/// The results of the calls.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    pub(crate) answered: Calls,
    /// The same for each scene: the calls that began in it. The first entry has the calls that began between scenes.
    pub(crate) by_scene: Vec<Calls>,
    pub(crate) failed: Vec<Failed>,
}

#[derive(Clone)]
pub(crate) struct Failed {
    pub(crate) begun: Instant,
    pub(crate) status: tonic::Status,
}

/// Shared by all callers.
#[derive(Default)]
pub(crate) struct Ledger {
    /// The number of the current scene; 0 between scenes.
    scene: AtomicUsize,
    over: AtomicBool,
    tally: Mutex<Tally>,
}

impl Ledger {
    /// Scenes are counted from 1.
    pub(crate) fn begin_scene(&self, scene: usize) {
        self.scene.store(scene, Ordering::SeqCst);
    }

    pub(crate) fn end_scene(&self) {
        self.scene.store(0, Ordering::SeqCst);
    }

    /// Lets each caller end after its current call.
    pub(crate) fn finish(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    pub(crate) fn tally(&self) -> Tally {
        self.open().clone()
    }

    pub(crate) fn answered(&self) -> Calls {
        self.open().answered.clone()
    }

    fn open(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_answer(&self, scene: usize, server: &str) {
        let mut tally = self.open();
        count(&mut tally.answered, server);
        if tally.by_scene.len() <= scene {
            tally.by_scene.resize_with(scene + 1, Calls::new);
        }
        count(&mut tally.by_scene[scene], server);
    }

    fn note_failure(&self, begun: Instant, status: tonic::Status) {
        self.open().failed.push(Failed { begun, status });
    }
}

fn count(calls: &mut Calls, server: &str) {
    match calls.get_mut(server) {
        Some(count) => *count += 1,
        None => drop(calls.insert(server.to_owned(), 1)),
    }
}

/// Starts the callers, all on clones of one channel.
pub(crate) fn start(channel: &Channel, ledger: &Arc<Ledger>) -> JoinSet<()> {
    (0..CALLERS).map(|_| call(client(channel.clone()), Arc::clone(ledger))).collect()
}

/// Calls without a pause.
async fn call(mut client: EchoClient<Channel>, ledger: Arc<Ledger>) {
    while !ledger.over.load(Ordering::SeqCst) {
        let (begun, scene) = (Instant::now(), ledger.scene.load(Ordering::SeqCst));
        let request = EchoRequest { payload: b"hello".to_vec(), delay_ms: THINKING_MS, ..EchoRequest::default() };
        match client.unary(request).await {
            Ok(answer) => ledger.note_answer(scene, &answer.get_ref().server),
            Err(status) => {
                ledger.note_failure(begun, status);
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
}
