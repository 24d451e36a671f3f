//! One HTTP/2 connection, from dialling to its end.

mod driver;
mod queue;
mod slot;
mod streams;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use callboard_core::{Address, Error};
use h2::client::SendRequest;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tracing::Instrument;

pub(crate) use self::queue::{Turn, Wait};
pub(crate) use self::slot::Slot;
use self::streams::Streams;
use super::progress::Progress;
use super::seen::Seen;
use super::settings::Http2Settings;
use super::{Connector, End, Settings};

/// What happens to a connection, in this order: `Failed`, or `Ready`, perhaps `Closing`, `Closed`.
#[derive(Debug)]
pub(crate) enum Event {
    /// It could not be opened.
    Failed(Error),
    /// The peer's SETTINGS have arrived; requests can be sent.
    Ready(Arc<Connection>),
    /// The peer takes no new requests; those in flight go on.
    Closing(End),
    /// It is gone.
    Closed(End),
}

/// An open connection. Dropping the last handle lets the requests in flight finish and closes it then.
pub(crate) struct Connection {
    pub(super) sender: SendRequest<Bytes>,
    pub(super) streams: Arc<Streams>,
    pub(super) seen: Arc<Seen>,
    /// The runtime of its tasks. Calls may be polled on another one.
    pub(super) runtime: Handle,
    /// The largest list of headers or trailers that a response may have.
    pub(super) header_list: usize,
    /// A compressed header block up to this size cannot exceed the header list limit.
    pub(super) harmless_block: u32,
    /// Dropping it tells the driver that no handle is left to send requests.
    _held: oneshot::Sender<()>,
}

impl Connection {
    /// Must be called on the runtime that the connection's tasks shall run on.
    pub(super) fn new(
        sender: SendRequest<Bytes>,
        streams: Arc<Streams>,
        seen: Arc<Seen>,
        http2: &Http2Settings,
        held: oneshot::Sender<()>,
    ) -> Self {
        let (header_list, harmless_block) = (http2.header_list() as usize, http2.harmless_block());
        Self { sender, streams, seen, runtime: Handle::current(), header_list, harmless_block, _held: held }
    }

    /// Whether new requests can be sent, now or once a stream is free.
    pub(crate) fn is_open(&self) -> bool {
        !self.streams.is_closing()
    }

    /// Whether a stream is free at this moment.
    pub(crate) fn has_place(&self) -> bool {
        self.streams.used() < self.streams.limit()
    }

    /// Whether a response was received on it.
    pub(crate) fn has_answered(&self) -> bool {
        self.streams.has_answered()
    }

    /// Whether a request was sent on it.
    pub(crate) fn was_used(&self) -> bool {
        self.streams.was_used()
    }

    /// Whether a request is in flight.
    pub(crate) fn is_busy(&self) -> bool {
        self.streams.used() > 0
    }

    /// The last request that was sent, as a number that grows with each.
    pub(crate) fn last_request(&self) -> u32 {
        self.seen.last_written()
    }

    /// How many concurrent requests the peer permits.
    pub(crate) fn places(&self) -> usize {
        self.streams.limit()
    }

    /// Whether calls wait for a stream on this connection.
    pub(crate) fn is_waited_for(&self) -> bool {
        !self.streams.queue.is_empty()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("used", &self.streams.used())
            .field("limit", &self.streams.limit())
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}

/// A connection that is being opened. Dropping it gives up; after [`Event::Ready`] that has no effect any more.
#[derive(Debug)]
pub(crate) struct Opening {
    task: AbortHandle,
    ready: Arc<std::sync::atomic::AtomicBool>,
}

impl Drop for Opening {
    fn drop(&mut self) {
        if !self.ready.load(std::sync::atomic::Ordering::SeqCst) {
            self.task.abort();
        }
    }
}

/// Identifies an attempt to connect, and the subchannel that makes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionKey {
    /// The number of the subchannel that makes it.
    pub(crate) by: u64,
    pub(crate) id: u64,
}

/// Opens a connection in a task of its own, which also drives it to its end. Its events are sent to `events`, together
/// with `attempt`.
pub(crate) fn open(
    attempt: ConnectionKey,
    address: Address,
    connector: Arc<dyn Connector>,
    settings: Settings,
    events: mpsc::UnboundedSender<(ConnectionKey, Event)>,
) -> Opening {
    let ready = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let span = tracing::debug_span!("connection", %address, id = attempt.id).or_current();
    let opened = Arc::clone(&ready);
    let task = async move {
        // A send fails only if the receiver was dropped. Then the event is not needed.
        let report = |event| drop(events.send((attempt, event)));
        let mut report_end = ReportEnd { report: &report, done: false };
        let progress = Progress::default();
        let handshake = driver::handshake(&address, &*connector, &settings, &progress);
        let outcome = tokio::time::timeout(settings.connect_timeout, handshake).await;
        match outcome {
            Err(_) => report(Event::Failed(progress.timed_out(settings.connect_timeout))),
            Ok(Err(error)) => report(Event::Failed(progress.failed(error))),
            Ok(Ok((connection, driver))) => {
                drop(progress);
                opened.store(true, std::sync::atomic::Ordering::SeqCst);
                report(Event::Ready(connection));
                let end = driver.drive(&|end| report(Event::Closing(end))).await;
                tracing::debug!(why = end.why, "connection closed");
                report(Event::Closed(end));
            }
        }
        report_end.done = true;
    };
    Opening { task: tokio::spawn(task.instrument(span)).abort_handle(), ready }
}

/// Reports that a connection is gone if its task ends without doing so. A panic in a user's connector or byte stream
/// must not leave an endpoint connecting or ready for ever.
struct ReportEnd<'a> {
    report: &'a (dyn Fn(Event) + Sync),
    done: bool,
}

impl Drop for ReportEnd<'_> {
    fn drop(&mut self) {
        if !self.done {
            (self.report)(Event::Closed(End { why: "its task has panicked".to_owned(), ..End::default() }));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Poll};

    use callboard_core::Result;
    use futures_core::future::BoxFuture;
    use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

    use super::*;
    use crate::transport::connector::Socket;

    /// Gives out one end of a pipe, or panics if it has none.
    #[derive(Debug)]
    struct Faulty(Mutex<Option<DuplexStream>>, Arc<AtomicBool>);

    impl Connector for Faulty {
        fn connect<'a>(&'a self, _: &'a Address, _: &'a Progress) -> BoxFuture<'a, Result<Box<dyn Socket>>> {
            Box::pin(async {
                let pipe = self.0.lock().unwrap().take().expect("a connector's fault");
                Ok(Box::new(Panicking(pipe, Arc::clone(&self.1))) as _)
            })
        }
    }

    /// Panics on the first read after its flag was set.
    struct Panicking(DuplexStream, Arc<AtomicBool>);

    impl AsyncRead for Panicking {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            assert!(!self.1.load(Ordering::SeqCst), "a socket's fault");
            Pin::new(&mut self.0).poll_read(cx, buf)
        }
    }

    impl AsyncWrite for Panicking {
        fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(cx, buf)
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(cx)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(cx)
        }
    }

    #[tokio::test]
    async fn a_panic_of_the_users_code_ends_the_connection_like_any_other_fault() {
        const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        let (reports, mut events) = mpsc::unbounded_channel();
        let (near, mut far) = tokio::io::duplex(4096);
        let fault = Arc::new(AtomicBool::new(false));
        let connector = Arc::new(Faulty(Mutex::new(Some(near)), Arc::clone(&fault)));
        let dial = |id| {
            let address = "127.0.0.1:1".parse().expect("an address");
            open(ConnectionKey { by: 0, id }, address, connector.clone(), Settings::default(), reports.clone())
        };
        let _first = dial(1);
        far.write_all(&SETTINGS).await.expect("SETTINGS");
        let event = events.recv().await;
        assert!(matches!(event, Some((ConnectionKey { id: 1, .. }, Event::Ready(_)))), "{event:?}");
        fault.store(true, Ordering::SeqCst);
        far.write_all(&SETTINGS).await.expect("more SETTINGS");
        let event = events.recv().await;
        assert!(matches!(event, Some((ConnectionKey { id: 1, .. }, Event::Closed(_)))), "{event:?}");
        let _second = dial(2);
        let event = events.recv().await;
        assert!(matches!(event, Some((ConnectionKey { id: 2, .. }, Event::Closed(_)))), "{event:?}");
    }
}
