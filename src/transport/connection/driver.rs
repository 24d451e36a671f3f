//! The task that moves a connection's bytes.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use callboard_core::{Address, Error, ErrorKind, Result};
use h2::client::SendRequest;
use h2::{Ping, PingPong};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Connection;
use super::streams::Streams;
use crate::transport::bandwidth::{Bandwidth, Next};
use crate::transport::connector::Socket;
use crate::transport::failure::describe;
use crate::transport::greeting::Greeted;
use crate::transport::keepalive::PingTimer;
use crate::transport::phase::Phase;
use crate::transport::progress::Progress;
use crate::transport::read_on::ReadOn;
use crate::transport::seen::Seen;
use crate::transport::wire::Wire;
use crate::transport::{Connector, End, Parting, Settings};

type Http2 = h2::client::Connection<ReadOn<Wire<Greeted<Box<dyn Socket>>>>, Bytes>;

/// Dials, performs the handshakes, and waits for the peer's SETTINGS. The caller bounds the time.
pub(in crate::transport) async fn handshake(
    address: &Address,
    connector: &dyn Connector,
    settings: &Settings,
    progress: &Progress,
) -> Result<(Arc<Connection>, Driver)> {
    let socket = connector.connect(address, progress).await?;
    let socket = progress.listen(Phase::Http2, socket);
    let seen = Arc::new(Seen::default());
    // `ReadOn` is outside: bytes that it discards are not noted as written.
    let wire = ReadOn::new(Wire::new(socket, Arc::clone(&seen), settings.http2.header_list()));
    let (sender, mut http2) = settings.http2.builder().handshake(wire).await.map_err(|error| failed(&error, &seen))?;
    poll_fn(|cx| poll_settings(&mut http2, &seen, cx)).await?;

    let streams = Arc::new(Streams::default());
    streams.set_limit(http2.max_concurrent_send_streams());
    let pings = http2.ping_pong();
    let (held, orphaned) = oneshot::channel();
    let driver = Driver {
        http2,
        probe: Some(sender.clone()),
        streams: Arc::clone(&streams),
        seen: Arc::clone(&seen),
        pings,
        ping_timer: PingTimer::new(&settings.keepalive),
        bandwidth: settings.http2.adapts_from().map(Bandwidth::new),
        window_due: None,
        orphaned,
        closing: false,
    };
    Ok((Arc::new(Connection::new(sender, streams, seen, &settings.http2, held)), driver))
}

fn failed(error: &h2::Error, seen: &Seen) -> Error {
    Error::new(ErrorKind::Unavailable, format!("HTTP/2: {}", describe(error, seen)))
}

/// Until the SETTINGS have arrived, no stream may be opened; see [`Http2Settings`](super::settings::Http2Settings).
fn poll_settings(http2: &mut Http2, seen: &Seen, cx: &mut Context<'_>) -> Poll<Result<()>> {
    let ended = Pin::new(&mut *http2).poll(cx);
    if http2.max_concurrent_send_streams() > 0 {
        // If the connection has ended meanwhile, its driver will notice.
        return Poll::Ready(Ok(()));
    }
    match ended {
        Poll::Pending => Poll::Pending,
        Poll::Ready(Ok(())) => {
            Poll::Ready(Err(Error::new(ErrorKind::Unavailable, "HTTP/2: the server closed the connection")))
        }
        Poll::Ready(Err(error)) => Poll::Ready(Err(failed(&error, seen))),
    }
}

/// Drives one connection to its end.
pub(in crate::transport) struct Driver {
    http2: Http2,
    /// Polled after the connection to learn whether a request could still be sent, so that a GOAWAY is noticed when it
    /// arrives and not by the next request. Dropped once no handle is left, because it keeps the connection open.
    probe: Option<SendRequest<Bytes>>,
    streams: Arc<Streams>,
    seen: Arc<Seen>,
    /// Used by the next two fields. HTTP/2 permits any number of outstanding PINGs; `h2` permits one.
    pings: Option<PingPong>,
    ping_timer: Option<PingTimer>,
    bandwidth: Option<Bandwidth>,
    /// The next window of each stream, to be set once the peer has acknowledged the last change.
    window_due: Option<u32>,
    /// Resolves when the last [`Connection`] handle is dropped.
    orphaned: oneshot::Receiver<()>,
    closing: bool,
}

impl Driver {
    /// Runs until the connection is gone, and returns why. `closing` is called at most once, if the peer takes no new
    /// requests.
    pub(in crate::transport) async fn drive(mut self, closing: &(dyn Fn(End) + Sync)) -> End {
        let end = poll_fn(|cx| self.poll(cx, closing)).await;
        // The order matters: streams learn from the drop of `http2` that the connection is gone, and then read the
        // reason.
        self.streams.end(end.why.clone());
        end
    }

    fn poll(&mut self, cx: &mut Context<'_>, closing: &dyn Fn(End)) -> Poll<End> {
        if self.probe.is_some() && Pin::new(&mut self.orphaned).poll(cx).is_ready() {
            self.probe = None;
        }
        if let Poll::Ready(ended) = Pin::new(&mut self.http2).poll(cx) {
            return Poll::Ready(match ended {
                Ok(()) if self.probe.is_none() => "not needed any more".into(),
                Ok(()) => End::closed(&self.seen),
                Err(error) => End::by(&error, &self.seen),
            });
        }
        self.note_limit();
        if let Some(end) = self.refusal(cx) {
            self.streams.close();
            closing(end);
        }
        self.poll_pings(cx)
    }

    /// Sends PINGs: to measure the path, and to check that the peer is alive.
    fn poll_pings(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        let (answered, read) = (pings.poll_pong(cx).is_ready(), self.seen.read());
        // A server that is closing the connection may close its socket before it reads the PING. The system then resets
        // the connection, and the last data of the server is lost.
        if self.closing {
            (self.bandwidth, self.window_due) = (None, None);
        }
        match self.bandwidth.as_mut().map(|bandwidth| bandwidth.look(Instant::now, read, answered)) {
            Some(Next::Widen(window)) => self.window_due = Some(window),
            // It fails while the keepalive's PING is outstanding; the next poll tries again.
            Some(Next::Ask) if pings.send_ping(Ping::opaque()).is_ok() => {
                self.bandwidth.iter_mut().for_each(|bandwidth| bandwidth.asked(Instant::now(), read));
            }
            _ => {}
        }
        if let Some(window) = self.window_due
            && self.http2.set_initial_window_size(window).is_ok()
        {
            self.window_due = None;
            // `h2` sends it when it is polled next.
            cx.waker().wake_by_ref();
        }
        let busy = self.streams.used() > 0;
        let Some(ping_timer) = &mut self.ping_timer else { return Poll::Pending };
        let dead = || End { parting: Parting::Broken, ..End::from("the peer did not answer a PING in time") };
        ping_timer.poll_dead(cx, pings, answered, read, busy).map(|()| dead())
    }

    fn note_limit(&self) {
        let limit = self.http2.max_concurrent_send_streams();
        if limit != self.streams.limit() {
            self.streams.set_limit(limit);
        }
    }

    /// Why no new request can be sent. Returned once.
    fn refusal(&mut self, cx: &mut Context<'_>) -> Option<End> {
        if self.closing {
            return None;
        }
        match self.probe.as_mut()?.poll_ready(cx) {
            _ if self.seen.is_spent() => {
                self.closing = true;
                Some("it has had too many frames of padding alone".into())
            }
            Poll::Ready(Err(error)) => {
                self.closing = true;
                Some(End::by(&error, &self.seen))
            }
            _ => None,
        }
    }
}
