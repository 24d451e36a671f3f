//! Those who call, each one call after the other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use callboard::Idempotent;
use callboard_echo::pb::EchoRequest;
use callboard_echo::pb::echo_client::EchoClient;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};
use tower::ServiceExt;

use crate::client::AnyChannel;
use crate::load::Wish;
use crate::tally::Tally;

/// How many messages a stream has, and how far apart: it outlives many unary calls.
const MESSAGES: u32 = 20;
const APART: u32 = 20;
/// After a failure, so that a client which fails at once is not mistaken for a fast one.
const REST: Duration = Duration::from_millis(5);

/// What a caller does all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Unary,
    ServerStream,
    Bidirectional,
    /// One bidirectional stream for as long as the callers call.
    Whole,
}

/// One who calls.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) channel: AnyChannel,
    pub(crate) wish: Wish,
    pub(crate) over: Arc<AtomicBool>,
    pub(crate) tally: Arc<Mutex<Tally>>,
}

impl Caller {
    pub(crate) async fn run(self, kind: Kind) {
        let begun_to_answer = Arc::<AtomicBool>::default();
        let noted = Arc::clone(&begun_to_answer);
        let channel = self.channel.clone().map_response(move |response| {
            noted.store(true, Ordering::Relaxed);
            response
        });
        let mut client = EchoClient::new(AnyChannel::new(channel));
        while !self.is_over() {
            let begun = Instant::now();
            let outcome = match kind {
                Kind::Unary => client.unary(self.request(self.wish.delay_ms)).await.map(drop),
                Kind::ServerStream => server_stream(&mut client, self.request(APART)).await,
                Kind::Bidirectional => bidirectional(&mut client, |sent| sent == MESSAGES).await,
                Kind::Whole => bidirectional(&mut client, |_| self.is_over()).await,
            };
            let failed = outcome.is_err();
            let answered = begun_to_answer.swap(false, Ordering::Relaxed);
            self.note(kind, outcome, begun.elapsed(), answered);
            let (least, most) = self.wish.pause;
            match failed {
                true => sleep(REST).await,
                false if !most.is_zero() => sleep(least + (most - least).mul_f64(fastrand::f64())).await,
                false => {}
            }
        }
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn request(&self, delay_ms: u32) -> Request<EchoRequest> {
        let mut request = Request::new(EchoRequest { payload: b"echo".to_vec(), delay_ms, repeat: MESSAGES });
        request.set_timeout(Duration::from_secs(30));
        if self.wish.idempotent {
            request.extensions_mut().insert(Idempotent);
        }
        request
    }

    fn note(&self, kind: Kind, outcome: Result<(), Status>, took: Duration, answered: bool) {
        let mut tally = self.tally.lock().unwrap();
        match kind {
            Kind::Unary => tally.unary += 1,
            _ => tally.streams += 1,
        }
        tally.note(outcome, if kind == Kind::Unary { took } else { Duration::ZERO }, answered);
    }
}

/// A stream that ends well is whole.
fn whole(messages: u32) -> Result<(), Status> {
    match messages {
        MESSAGES => Ok(()),
        some => Err(Status::data_loss(format!("a stream that ended well had {some} messages of {MESSAGES}"))),
    }
}

async fn server_stream(client: &mut EchoClient<AnyChannel>, request: Request<EchoRequest>) -> Result<(), Status> {
    let mut answers = client.server_streaming(request).await?.into_inner();
    let mut count = 0;
    while answers.message().await?.is_some() {
        count += 1;
    }
    whole(count)
}

/// Sends a message and awaits its answer, until that is enough.
async fn bidirectional(client: &mut EchoClient<AnyChannel>, enough: impl Fn(u32) -> bool) -> Result<(), Status> {
    let (messages, stream) = mpsc::channel(1);
    let message = || EchoRequest { payload: b"echo".to_vec(), delay_ms: APART, repeat: 0 };
    // Before the call: a proxy may want to see something of the request before it answers.
    messages.try_send(message()).unwrap();
    let mut answers = client.bidirectional(Request::new(ReceiverStream::new(stream))).await?.into_inner();
    let mut count = 0;
    while answers.message().await?.is_some() {
        count += 1;
        if enough(count) {
            drop(messages);
            let rest = answers.message().await?;
            return rest.map_or(Ok(()), |_| Err(Status::data_loss("an answer to nothing")));
        }
        // Refused only if the stream has ended, which the next answer says.
        let _ = messages.send(message()).await;
    }
    Err(Status::data_loss(format!("a stream ended well after {count} answers, and was not over")))
}
