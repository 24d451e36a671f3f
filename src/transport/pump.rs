//! The task that sends a streamed request body.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use bytes::Bytes;
use h2::{Reason, SendStream};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, consume_budget};

use super::outgoing::{Outgoing, Piece, Replay};

/// A body that is being sent by a task of its own, until the owner of the stream [stops](Stop) it.
#[derive(Debug)]
pub(super) struct Pump {
    task: JoinHandle<Box<Replay>>,
    shared: Arc<Shared>,
    stop: Arc<Stop>,
}

/// State shared by the task and its owner.
#[derive(Debug, Default)]
struct Shared {
    /// Whether the server has begun to answer.
    answered: AtomicBool,
    /// The body's own error. Set before the stream is reset because of it, so that the reader of the response finds it.
    failure: OnceLock<tonic::Status>,
    /// How many bytes were handed to the connection.
    sent: AtomicU64,
}

/// How many bytes of a request's body were sent.
#[derive(Debug)]
pub(crate) enum SentBytes {
    /// The whole body was sent at once.
    Whole(u64),
    Stream(Streamed),
}

/// How many bytes the task that sends a body has handed to the connection.
#[derive(Debug)]
pub(crate) struct Streamed(Arc<Shared>);

impl Streamed {
    /// How many there are now.
    pub(crate) fn count(&self) -> u64 {
        self.0.sent.load(Ordering::Relaxed)
    }
}

/// Stops the task.
#[derive(Debug, Default)]
pub(super) struct Stop {
    stopped: Notify,
    reset: Notify,
}

impl Stop {
    /// Stops sending. The stream stays as it is.
    pub(super) fn stop(&self) {
        self.stopped.notify_one();
    }

    /// Stops sending, and resets the stream if the body was not sent completely.
    pub(super) fn reset(&self) {
        self.reset.notify_one();
        self.stop();
    }
}

impl Pump {
    pub(super) fn start(runtime: &Handle, stream: SendStream<Bytes>, mut body: Box<Replay>) -> Self {
        let (shared, stop) = (Arc::<Shared>::default(), Arc::<Stop>::default());
        let mut sending = Sending { stream, shared: Arc::clone(&shared), over: false };
        let stopper = Arc::clone(&stop);
        let task = runtime.spawn(async move {
            tokio::select! {
                () = pump(&mut sending, &mut body) => {}
                () = stopper.stopped.notified() => if !sending.over { stopper.reset.notified().await },
            }
            body
        });
        Self { task, shared, stop }
    }

    /// How many bytes it sends.
    pub(super) fn sent_bytes(&self) -> SentBytes {
        SentBytes::Stream(Streamed(Arc::clone(&self.shared)))
    }

    /// A handle that stops the task from elsewhere.
    pub(super) fn stopper(&self) -> Arc<Stop> {
        Arc::clone(&self.stop)
    }

    /// Notes that the server has begun to answer: pieces that were sent need not be kept any more.
    pub(super) fn answered(&self) {
        self.shared.answered.store(true, Ordering::Relaxed);
    }

    /// The body's own error, if it had one: why the stream was reset.
    pub(super) fn failure(&self) -> Option<&tonic::Status> {
        self.shared.failure.get()
    }

    /// Returns the body, rewound, after the stream has failed or was [`reset`](Stop::reset); both end the task. None if
    /// it cannot be sent again: the body has panicked or failed, or is too large.
    pub(super) async fn rewound(mut self) -> Option<Outgoing> {
        let body = (&mut self.task).await.ok()?;
        let failed = self.failure().is_some();
        body.rewind().filter(|_| !failed).map(Outgoing::Stream)
    }
}

/// A stream on which a body is being sent. Dropped before the end, it resets the stream. Without that the server would
/// wait for the rest for ever, because the stream is also held by the receiver of the response.
struct Sending {
    stream: SendStream<Bytes>,
    shared: Arc<Shared>,
    over: bool,
}

impl Drop for Sending {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        if std::thread::panicking() {
            // It is set already only if the body has failed, and then it is not asked again.
            let _ = self.shared.failure.set(tonic::Status::internal("the request's stream panicked"));
        }
        self.stream.send_reset(Reason::CANCEL);
    }
}

/// Sends the body to its end, or until it fails or the stream is reset.
async fn pump(sending: &mut Sending, body: &mut Replay) {
    loop {
        // A body that is always ready must not starve other tasks, nor delay a stop.
        consume_budget().await;
        if sending.shared.answered.load(Ordering::Relaxed) {
            body.forget();
        }
        let stream = &mut sending.stream;
        let piece = poll_fn(|cx| match stream.poll_reset(cx) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => body.poll_next(cx).map(Some),
        });
        let open = match piece.await {
            // The stream is gone, and the receiver of the response learns why. The same holds if sending fails.
            None => false,
            Some(Some(Ok(Piece::Data(data)))) => send(stream, data, &sending.shared.sent).await,
            Some(Some(Ok(Piece::Trailers(trailers)))) => {
                let _ = stream.send_trailers(trailers);
                false
            }
            Some(None) => {
                let _ = stream.send_data(Bytes::new(), true);
                false
            }
            Some(Some(Err(status))) => {
                // Set once, here; see `Sending` for the only other place.
                let _ = sending.shared.failure.set(status);
                return;
            }
        };
        if !open {
            sending.over = true;
            return;
        }
    }
}

/// Sends one piece as the peer's windows allow. False if the stream is gone.
async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes, sent: &AtomicU64) -> bool {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let granted = poll_fn(|cx| match stream.poll_reset(cx) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => stream.poll_capacity(cx),
        });
        match granted.await {
            Some(Ok(0)) => {}
            Some(Ok(capacity)) => {
                let part = data.split_to(capacity.min(data.len()));
                let bytes = part.len() as u64;
                if stream.send_data(part, false).is_err() {
                    return false;
                }
                sent.fetch_add(bytes, Ordering::Relaxed);
            }
            Some(Err(_)) | None => return false,
        }
    }
    true
}
