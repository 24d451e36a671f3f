//! Callers, and how their calls went.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use callboard::{Channel, Idempotent};
use callboard_echo::pb::EchoRequest;
use callboard_echo::pb::echo_client::EchoClient;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tonic::{Request, Status};

/// How many call at a time.
pub(crate) const CALLERS: usize = 64;
/// Longer than anything here takes, on a busy machine; only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a condition that something else makes true.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let looked = async {
        while !condition() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, looked).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} in vain until {what}"));
}

/// What the callers have seen so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) unary: u64,
    pub(crate) streams: u64,
    pub(crate) repeatable: u64,
    pub(crate) repeatable_failed: u64,
    pub(crate) failed: Vec<Status>,
}

impl Tally {
    pub(crate) fn failures(&self) -> usize {
        self.failed.len()
    }

    fn calls(&self) -> u64 {
        self.unary + self.streams + self.repeatable
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { unary, streams, repeatable, repeatable_failed, failed } = self;
        let failed = failed.len();
        write!(f, "{unary} unary calls, {streams} streams, {repeatable} calls marked Idempotent, ")?;
        write!(f, "{failed} failed, {repeatable_failed} of them so marked")
    }
}

/// Callers that call without a pause.
pub(crate) struct Load {
    tally: Arc<Mutex<Tally>>,
    over: Arc<AtomicBool>,
    callers: JoinSet<()>,
}

impl Load {
    pub(crate) fn start(channel: &Channel) -> Self {
        let (tally, over) = (Arc::<Mutex<Tally>>::default(), Arc::new(AtomicBool::new(false)));
        let caller = |number| call(channel.clone(), number % 4, Arc::clone(&tally), Arc::clone(&over));
        Self { callers: (0..CALLERS).map(caller).collect(), tally, over }
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally.lock().unwrap().clone()
    }

    /// Waits until each caller may have made some more calls.
    pub(crate) async fn goes_on(&self) {
        let wanted = self.tally().calls() + 4 * CALLERS as u64;
        until("more calls are made", || self.tally.lock().unwrap().calls() >= wanted).await;
    }

    pub(crate) async fn finish(self) -> Tally {
        self.over.store(true, Ordering::Relaxed);
        self.callers.join_all().await;
        let tally = self.tally.lock().unwrap();
        tally.clone()
    }
}

async fn call(channel: Channel, kind: usize, tally: Arc<Mutex<Tally>>, over: Arc<AtomicBool>) {
    let mut client = EchoClient::new(channel);
    while !over.load(Ordering::Relaxed) {
        let message = EchoRequest { payload: b"echo".to_vec(), delay_ms: 2, repeat: 3 };
        let mut request = Request::new(message);
        request.set_timeout(Duration::from_secs(30));
        if kind == 0 {
            request.extensions_mut().insert(Idempotent);
        }
        let outcome = match kind {
            1 | 2 => stream(&mut client, request).await,
            _ => client.unary(request).await.map(drop),
        };
        let mut tally = tally.lock().unwrap();
        match kind {
            0 => tally.repeatable += 1,
            1 | 2 => tally.streams += 1,
            _ => tally.unary += 1,
        }
        if let Err(status) = outcome {
            tally.repeatable_failed += u64::from(kind == 0);
            tally.failed.push(status);
        }
    }
}

/// A call that is answered by three messages.
async fn stream(client: &mut EchoClient<Channel>, request: Request<EchoRequest>) -> Result<(), Status> {
    let mut answers = client.server_streaming(request).await?.into_inner();
    let mut count = 0;
    while answers.message().await?.is_some() {
        count += 1;
    }
    assert_eq!(count, 3, "a stream that ends well is whole");
    Ok(())
}
